'use strict'

// Benchmarks over the published client: the figures a connection is compared with. `dial`, `rtt` and `echo` want a peer
// that echoes, `oneway` one that reads to the end and then ends its own direction.

const { performance } = require('perf_hooks')
const pull = require('pull-stream')
const { open } = require('./dial')
const { CHUNK, send, tally } = require('./streams')

const MIB = 1024 * 1024
const WARM_UP_PINGS = 50
const WARM_UP_MIB = 16

const round = value => Math.round(value * 100) / 100

function percentile (values, p) {
  const sorted = Float64Array.from(values).sort()
  return round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * p))])
}

function transfer (conn, bytes, chunk = CHUNK) {
  return new Promise((resolve, reject) => {
    pull(conn, tally({ hash: false }, (err, read) => err ? reject(err) : resolve(read)))
    pull(send({ bytes, chunk }), conn)
  })
}

async function dialMs (transport, to, dials) {
  const times = []
  for (let n = 0; n < dials; n++) {
    const started = performance.now()
    const conn = await open(transport, to)
    times.push(performance.now() - started)
    await transfer(conn, 0)
  }
  return percentile(times, 0.5)
}

// Round trips of 64 bytes, one after the other on one connection: the source gives the next ping when the answer to the
// one before has been read in full.
async function roundTrips (transport, to, pings) {
  const conn = await open(transport, to)
  const ping = Buffer.alloc(64, 7)
  const times = []
  let next = null
  let started = null
  let answered = ping.length

  function step () {
    if (!next || answered < ping.length) return
    if (started !== null) times.push((performance.now() - started) * 1000)
    const cb = next
    next = null
    if (times.length === pings + WARM_UP_PINGS) return cb(true)
    answered = 0
    started = performance.now()
    cb(null, ping)
  }

  return new Promise((resolve, reject) => {
    pull(conn, pull.drain(item => {
      answered += item.length
      step()
    }, err => err ? reject(err) : resolve(times.slice(WARM_UP_PINGS))))
    pull((abort, cb) => {
      if (abort) return cb(abort)
      next = cb
      step()
    }, conn)
  })
}

const warm = new Set()

// The first transfer there and back, and the first one way, are not timed: they make the pattern and have the code on
// the way compiled, in all three processes.
async function mibPerSecond (transport, to, mib, chunk, returned) {
  if (!warm.has(returned > 0)) await transfer(await open(transport, to), WARM_UP_MIB * MIB)
  warm.add(returned > 0)
  const conn = await open(transport, to)
  const started = performance.now()
  const { bytes } = await transfer(conn, mib * MIB, chunk)
  if (bytes !== returned) throw new Error(`${bytes} bytes came back instead of ${returned}`)
  return round(mib * 1000 / (performance.now() - started))
}

async function measure (transport, { to, what = ['dial', 'rtt', 'echo'], dials = 50, pings = 2000, mib = 64, chunk }) {
  const figures = {}
  if (what.includes('dial')) figures.dialMs = await dialMs(transport, to, dials)
  if (what.includes('rtt')) {
    const times = await roundTrips(transport, to, pings)
    figures.rttP50Us = percentile(times, 0.5)
    figures.rttP99Us = percentile(times, 0.99)
  }
  if (what.includes('echo')) figures.echoMiBs = await mibPerSecond(transport, to, mib, chunk, mib * MIB)
  if (what.includes('oneway')) figures.onewayMiBs = await mibPerSecond(transport, to, mib, chunk, 0)
  return figures
}

module.exports = { measure }
