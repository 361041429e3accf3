// A client that logs in by SCRAM-SHA-256 and prints what it receives, with MQTT.js (npm install mqtt):
//   node scram_client.js mqtts://localhost:8883 USER FILTER [CA.pem]      the password is read from standard input
'use strict'
const crypto = require('crypto')
const fs = require('fs')
const mqtt = require('mqtt')

const [url, user, filter, ca] = process.argv.slice(2)
const password = fs.readFileSync(0, 'utf8').replace(/\n$/, '').normalize('NFKC')
const hmac = (key, text) => crypto.createHmac('sha256', key).update(text).digest()
const fields = (text) => Object.fromEntries(text.split(',').map((part) => [part[0], part.slice(2)]))

const nonce = crypto.randomBytes(18).toString('base64')
const first = `n=${user.replace(/=/g, '=3D').replace(/,/g, '=2C')},r=${nonce}`
let expected // what only a server that knows the user's keys can say

function answer (message) {
  const { r, s, i } = fields(message)
  if (!r.startsWith(nonce)) throw new Error('the server answers somebody else')
  const salted = crypto.pbkdf2Sync(password, Buffer.from(s, 'base64'), Number(i), 32, 'sha256')
  const clientKey = hmac(salted, 'Client Key')
  const final = `c=biws,r=${r}` // biws: no channel binding
  const signed = `${first},${message},${final}`
  const signature = hmac(crypto.createHash('sha256').update(clientKey).digest(), signed)
  const proof = clientKey.map((byte, at) => byte ^ signature[at])
  expected = 'v=' + hmac(hmac(salted, 'Server Key'), signed).toString('base64')
  return `${final},p=${Buffer.from(proof).toString('base64')}`
}

const properties = (text) => ({ authenticationMethod: 'SCRAM-SHA-256', authenticationData: Buffer.from(text) })
const client = mqtt.connect(url, {
  protocolVersion: 5,
  reconnectPeriod: 0, // a new connection takes a new nonce
  ca: ca && fs.readFileSync(ca),
  properties: properties('n,,' + first)
})
client.handleAuth = (packet, done) => {
  try {
    const text = answer(packet.properties.authenticationData.toString())
    done(null, { cmd: 'auth', reasonCode: 0x18, properties: properties(text) })
  } catch (error) {
    done(error)
  }
}
client.on('connect', (connack) => {
  if (connack.properties.authenticationData.toString() !== expected) {
    console.error('the server does not know our password: it is not the one that we mean')
    process.exit(1)
  }
  client.subscribe(filter, (error) => console.log(error ? String(error) : `connected as ${user}, subscribed to ${filter}`))
})
client.on('message', (topic, payload) => console.log(topic, payload.toString()))
client.on('error', (error) => { console.error(String(error)); process.exit(1) })
