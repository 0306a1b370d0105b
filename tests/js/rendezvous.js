'use strict'

// The published rendezvous server on a loopback port, until stdin ends. Takes one JSON argument:
// { port, cryptoChallenge, strictMultiaddr, refreshPeerListIntervalMS, metrics }, and says `listening` with the port it got,
// then, with metrics on, `metrics` with their text as it is at the start. The command `memory` is answered with the bytes
// of the heap that are still in use once the garbage is collected.

const v8 = require('v8')
const vm = require('vm')
const { register } = require(require.resolve('prom-client', {
  paths: [require.resolve('libp2p-websocket-star-rendezvous')]
}))
const { start } = require('libp2p-websocket-star-rendezvous')
const { emit, describe, obey } = require('./lib/lines')

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

// Node.js keeps the collector to itself until it is asked for.
v8.setFlagsFromString('--expose-gc')
const collect = vm.runInNewContext('gc')

obey({
  memory () {
    collect()
    emit({ event: 'memory', heap: process.memoryUsage().heapUsed })
  }
})
listen(RETRIES)
