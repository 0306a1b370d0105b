'use strict'

// The pull-stream events of websocket-star on a bare socket.io client, without socket.io-pull-stream.

const { randomUUID } = require('crypto')
const pattern = require('./pattern')

const CHUNK = 64 * 1024
const name = (kind, stream) => `socket.io-pull-stream.${kind}.${stream}`

// Sends what it is given once the receiver has accepted, until then it is kept.
function sink (socket, stream) {
  let waiting = []
  const send = event => waiting ? waiting.push(event) : socket.emit(...event)
  socket.once(name('accept', stream), () => {
    const events = waiting
    waiting = null
    events.forEach(send)
  })
  return {
    item: data => send([name('queue', stream), data]),
    end: reason => send([name('error', stream), reason])
  }
}

// Accepts a stream: calls `onItem` for each item, then `onEnd` with `true` or what went wrong.
function source (socket, stream, onItem, onEnd) {
  socket.on(name('queue', stream), onItem)
  socket.once(name('error', stream), end => {
    socket.off(name('queue', stream))
    onEnd(end)
  })
  socket.emit(name('accept', stream))
}

// A dial that comes in: `echo`, `echo-after-end`, or `refuse` with `reason`.
function accept (socket, id, cb, { mode, reason = 'refused' }) {
  if (mode === 'refuse') return cb(reason)
  const back = sink(socket, `${id}.listener`)
  const kept = []
  const onItem = mode === 'echo' ? back.item : item => kept.push(item)
  source(socket, `${id}.dialer`, onItem, end => {
    kept.forEach(back.item)
    back.end(end)
  })
  cb()
}

// Sends `bytes` bytes of the pattern in items of `chunk`, and ends that direction; the other must be the same bytes and
// a proper end. With `afterEnd`, nothing of it may come before the end of the first.
function dial (socket, from, { to, bytes = 0, chunk = CHUNK, afterEnd = false }, request) {
  const id = randomUUID()
  const out = sink(socket, `${id}.dialer`)
  let [sent, read, ended] = [0, 0, false]

  function send () {
    if (sent === bytes) {
      ended = true
      return out.end(true)
    }
    const item = pattern.at(sent, Math.min(chunk, bytes - sent))
    sent += item.length
    out.item(item)
    setImmediate(send)
  }

  // The server knows the streams of a dial only once it has been asked for it.
  const receive = () => new Promise((resolve, reject) => {
    source(socket, `${id}.listener`, item => {
      const data = Buffer.from(item)
      if (afterEnd && !ended) return reject(new Error('an item came too early'))
      if (!pattern.matches(read, data)) return reject(new Error(`wrong bytes in the item at offset ${read}`))
      read += data.length
    }, end => {
      if (end !== true) return reject(new Error(String(end)))
      if (read !== bytes) return reject(new Error(`${read} of ${bytes} bytes came back`))
      resolve(read)
    })
    send()
  })
  return request('ss-dial', from, to, id).then(receive)
}

module.exports = { accept, dial }
