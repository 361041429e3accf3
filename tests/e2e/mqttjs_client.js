// MQTT.js clients that a test drives: commands as JSON lines on standard input, events as JSON lines on standard output,
// each with the number of its client. See Program and MqttJs in shoal_test/tools.py.
'use strict'
const mqtt = require('mqtt')
const readline = require('readline')
const WebSocket = require('ws')

const clients = new Map()

function connect ({ client: number, options }) {
  const say = (event, fields) => process.stdout.write(JSON.stringify({ client: number, event, ...fields }) + '\n')
  let socket // under WebSocket, where the stream does not tell its port
  options.createWebsocket = (url, protocols, { wsOptions }) => {
    socket = new WebSocket(url, protocols, wsOptions)
    return socket
  }
  const client = mqtt.connect(options)
  let ending = false
  client.on('connect', (connack) =>
    say('connect', { sessionPresent: connack.sessionPresent, localPort: socket ? socket._socket.localPort : client.stream.localPort }))
  client.on('message', (topic, payload, packet) =>
    say('message', { topic, payload: payload.toString(), qos: packet.qos, retain: packet.retain, dup: packet.dup,
      properties: packet.properties || {} }))
  // MQTT.js acknowledges what comes while it ends, behind its own DISCONNECT, and calls that an error.
  client.on('error', (error) => ending && error.code === 'ERR_STREAM_WRITE_AFTER_END' ? client.stream.destroy() : say('error', { text: String(error) }))
  client.on('close', () => say('close', {}))
  clients.set(number, {
    subscribe: ({ topic, qos }) => client.subscribe(topic, { qos }, (error, granted) =>
      say('subscribed', { topic, granted: granted || [{ qos: String(error) }] })),
    publish: ({ topic, payload, qos, retain, properties }) =>
      client.publish(topic, payload, { qos, retain, properties }, (error) =>
        say(error ? 'error' : 'published', { topic, payload, text: String(error) })),
    end: () => { ending = true; client.end(false, {}, () => say('end', {})) },
    destroy: () => { (socket ? socket._socket : client.stream).destroy(); client.end(true, {}, () => say('end', {})) }
  })
}

readline.createInterface({ input: process.stdin })
  .on('line', (line) => {
    const command = JSON.parse(line)
    if (command.do === 'connect') connect(command)
    else clients.get(command.client)[command.do](command)
  })
  .on('close', () => process.exit(0))
