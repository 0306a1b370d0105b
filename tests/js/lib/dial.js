'use strict'

// Outgoing dials: one command, one `dialled` event.

const { randomUUID } = require('crypto')
const multiaddr = require('multiaddr')
const pull = require('pull-stream')
const { emit, describe } = require('./lines')
const pattern = require('./pattern')
const { send, tally } = require('./streams')

// Shorter than the minute the Rust driver waits, so that a dial that hangs is reported and not only missed.
const TIMEOUT_MS = 50000

function open (transport, to) {
  return new Promise((resolve, reject) => {
    const conn = transport.dial(multiaddr(to), err => err ? reject(err) : setImmediate(() => resolve(conn)))
  })
}

// An echo is compared with the pattern as it arrives; `ended` says whether our direction has ended.
function checkEcho ({ mode, bytes = 0 }, ended) {
  return (item, offset) => {
    if (mode === 'half-close' && !ended()) return `${item.length} bytes came before our direction ended`
    if (offset + item.length > bytes) return `more than ${bytes} bytes came back`
    if (!pattern.matches(offset, item)) return `wrong bytes in the item at offset ${offset}`
    return null
  }
}

const modes = {
  echo: exchange,
  'half-close': exchange,
  collect: exchange,
  items: sendItems
}

// Sends the pattern, ends our direction (with `hold`: only after the other one) and reads the other to its end.
async function exchange (transport, command, opened, read) {
  const collect = command.mode === 'collect'
  const conn = await open(transport, command.to)
  opened()

  let ended = false
  const check = collect ? undefined : checkEcho(command, () => ended)
  const done = new Promise((resolve, reject) => {
    pull(conn, tally({ hash: collect, check, read }, err => err ? reject(toError(err)) : resolve()))
  })
  const until = command.hold ? done.catch(() => {}) : null
  pull(send(Object.assign({}, command, { until, onEnd: () => { ended = true } })), conn)

  await done
  const { bytes = 0 } = command
  if (!collect && read.bytes !== bytes) throw new Error(`the echo ended after ${read.bytes} of ${bytes} bytes`)
}

// Sends the JSON values of `items` as they are, which the client's own sink never does, and collects the answer.
function sendItems (transport, { to, items }, opened, read) {
  const [listener] = Object.values(transport.listeners_list)
  const { io, ma } = listener
  const dialId = randomUUID()

  io.once(`socket.io-pull-stream.accept.${dialId}.dialer`, () => {
    for (const item of items) io.emit(`socket.io-pull-stream.queue.${dialId}.dialer`, item)
    io.emit(`socket.io-pull-stream.error.${dialId}.dialer`, true)
  })
  return new Promise((resolve, reject) => {
    io.emit('ss-dial', ma.toString(), to, dialId, err => {
      if (err) return reject(toError(err))
      opened()
      pull(io.createSource(`${dialId}.listener`), tally({ read }, err => err ? reject(toError(err)) : resolve()))
    })
  })
}

function toError (reason) {
  return reason instanceof Error ? reason : new Error(describe(reason))
}

function after (ms) {
  return new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error(`no end after ${ms} ms`)), ms).unref()
  })
}

async function dial (transport, command) {
  const { id, mode = 'echo', timeoutMS = TIMEOUT_MS } = command
  const started = Date.now()
  const read = { bytes: 0, items: 0 }
  const done = outcome => emit(Object.assign({ event: 'dialled', id, mode, ms: Date.now() - started }, outcome, read))
  let stage = 'open'

  function opened () {
    stage = 'stream'
    emit({ event: 'opened', id })
  }

  try {
    if (!modes[mode]) throw new Error(`no dial mode ${mode}`)
    const run = modes[mode](transport, Object.assign({}, command, { mode }), opened, read)
    await Promise.race([run, after(timeoutMS)])
    done({ ok: true })
  } catch (err) {
    done({ ok: false, stage, error: err.message })
  }
}

module.exports = { dial, open }
