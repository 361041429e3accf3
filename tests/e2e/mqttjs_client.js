// An MQTT.js client that a test drives: options as JSON in the first argument, commands as JSON lines on standard
// input, events as JSON lines on standard output. See MqttJs in shoal_test/tools.py.
'use strict'
const mqtt = require('mqtt')
const readline = require('readline')

const options = JSON.parse(process.argv[2])
const say = (event, fields) => process.stdout.write(JSON.stringify({ event, ...fields }) + '\n')

let socket // under WebSocket, where the stream does not tell its port
options.createWebsocket = (url, protocols, { wsOptions }) => {
  socket = new (require('ws'))(url, protocols, wsOptions)
  return socket
}
const client = mqtt.connect(options)
client.on('connect', (connack) =>
  say('connect', { sessionPresent: connack.sessionPresent, localPort: socket ? socket._socket.localPort : client.stream.localPort }))
client.on('message', (topic, payload, packet) =>
  say('message', { topic, payload: payload.toString(), qos: packet.qos, retain: packet.retain, dup: packet.dup }))
client.on('error', (error) => { say('error', { text: String(error) }); process.exit(1) })
client.on('close', () => say('close', {}))

const commands = {
  subscribe: ({ topic, qos }) => client.subscribe(topic, { qos }, (error, granted) =>
    say('subscribed', { topic, granted: granted || [{ qos: String(error) }] })),
  publish: ({ topic, payload, qos, retain }) => client.publish(topic, payload, { qos, retain }, (error) =>
    say(error ? 'error' : 'published', { topic, payload, text: String(error) })),
  end: () => client.end(false, {}, () => process.exit(0)),
  destroy: () => { client.stream.destroy(); process.exit(0) }
}
readline.createInterface({ input: process.stdin })
  .on('line', (line) => { const command = JSON.parse(line); commands[command.do](command) })
