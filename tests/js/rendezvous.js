'use strict'

// The published rendezvous server on a loopback port, until stdin ends. Takes one JSON argument:
// { port, cryptoChallenge, strictMultiaddr, refreshPeerListIntervalMS, metrics }, and says `listening` with the port it got,
// then, with metrics on, `metrics` with their text as it is at the start.

const { register } = require(require.resolve('prom-client', {
  paths: [require.resolve('libp2p-websocket-star-rendezvous')]
}))
const { start } = require('libp2p-websocket-star-rendezvous')
const { emit, describe, onCommand } = require('./lib/lines')

const RETRY_MS = 100
const RETRIES = 100

const { port, ...options } = Object.assign({
  port: 0,
  cryptoChallenge: true,
  strictMultiaddr: true,
  refreshPeerListIntervalMS: 10000
}, JSON.parse(process.argv[2] || '{}'))

// A server that is restarted on its port may find it borrowed by an outgoing connection of another test for a moment.
async function listen (retries) {
  try {
    // The server reads `options.port || config.hapi.port`: the one way to ask for port 0.
    const http = await start(Object.assign({ host: '127.0.0.1', hapi: { port } }, options))
    emit({ event: 'listening', port: http.info.port })
    // What `/metrics` serves depends on the version of menoetius: from 0.0.3 on it brings a prom-client of its own, and
    // knows nothing of those that the server registers.
    if (options.metrics) emit({ event: 'metrics', text: register.metrics() })
  } catch (err) {
    if (err.code === 'EADDRINUSE' && retries > 0) return setTimeout(listen, RETRY_MS, retries - 1)
    emit({ event: 'error', error: describe(err) })
    process.exit(1)
  }
}

process.on('SIGTERM', () => process.exit(0))
onCommand(() => {})
listen(RETRIES)
