// A small OCPP gateway as many operators run one: https and ws, security
// profile 2 (TLS, HTTP Basic) on one port, profile 3 (mutual TLS) on another.
//
//   node --inspect=127.0.0.1:9229 gateway.mjs --cert F --key F --ca F [--tls PORT] [--mtls PORT] [--mended]
//
// Its mutual-TLS path leaks outside of V8's heap, see pki.mjs; --mended does
// not. It prints its ports as one line of JSON and ends with its stdin if that is
// a pipe.
import fs from 'node:fs'
import https from 'node:https'
import { parseArgs } from 'node:util'
import { WebSocketServer } from 'ws'
import { Trust } from './pki.mjs'

const { values: flags } = parseArgs({ options: {
  cert: { type: 'string' }, key: { type: 'string' }, ca: { type: 'string' },
  tls: { type: 'string', default: '0' }, mtls: { type: 'string', default: '0' },
  mended: { type: 'boolean', default: false },
} })
const [cert, key, ca] = [flags.cert, flags.key, flags.ca].map((name) => fs.readFileSync(name))
const trust = new Trust(ca, flags.mended)
const stations = new Map() // by identity: the connection that counts

const answers = {
  BootNotification: () => ({ status: 'Accepted', currentTime: new Date().toISOString(), interval: 300 }),
  Heartbeat: () => ({ currentTime: new Date().toISOString() }),
  Authorize: () => ({ idTagInfo: { status: 'Accepted' } }),
}

function attach(identity, socket) {
  stations.get(identity)?.close(1000, 'replaced')
  stations.set(identity, socket)
  socket.on('close', () => { if (stations.get(identity) === socket) stations.delete(identity) })
  socket.on('error', () => {})
  socket.on('message', (data) => {
    let frame
    try { frame = JSON.parse(data) } catch { return socket.close(1002) }
    if (frame?.[0] === 2) socket.send(JSON.stringify([3, frame[1], answers[frame[2]]?.() ?? {}]))
  })
}

// admit returns the HTTP status of a refusal, or nothing.
const basic = (request, identity) => {
  const [user, password] = Buffer.from(request.headers.authorization?.replace(/^Basic /, '') ?? '', 'base64').toString().split(':')
  return user === identity && password ? 0 : 401
}
const certified = (request, identity) => {
  trust.learn(request.socket)
  return request.socket.getPeerCertificate().subject?.CN === identity ? 0 : 401
}

async function serve(port, options, admit) {
  const ws = new WebSocketServer({ noServer: true, maxPayload: 1 << 20, handleProtocols: (offered) => offered.has('ocpp1.6') && 'ocpp1.6' })
  const server = https.createServer({ cert, key, ...options }, (_, response) => response.writeHead(426).end())
  server.on('tlsClientError', () => {})
  server.on('upgrade', (request, socket, head) => {
    socket.on('error', () => {})
    const identity = decodeURIComponent(request.url.split('/').pop())
    const status = admit(request, identity)
    if (status) return socket.end(`HTTP/1.1 ${status} Refused\r\nConnection: close\r\n\r\n`)
    ws.handleUpgrade(request, socket, head, (connection) => attach(identity, connection))
  })
  await new Promise((resolve) => server.listen(Number(port), '127.0.0.1', resolve))
  return server.address().port
}

const ports = {
  pid: process.pid,
  tls: await serve(flags.tls, {}, basic),
  mtls: await serve(flags.mtls, { ca, requestCert: true, rejectUnauthorized: true }, certified),
}
console.log(JSON.stringify(ports))
if (fs.fstatSync(0).isFIFO()) process.stdin.resume().on('end', () => process.exit())
