'use strict'

// Pull streams both sides are built of: what is sent, and how what is read is accounted for.

const { createHash } = require('crypto')
const pull = require('pull-stream')
const pattern = require('./pattern')

const CHUNK = 64 * 1024

// Sends `bytes` pattern bytes in items of `chunk`. The next item is made in a later turn of the event loop: the stack
// has no flow control, and a synchronous source would put the whole transfer into memory before the first byte leaves.
//   empty: an empty item goes before every item and before the end
//   fail:  end with this string as the error instead of cleanly
//   until: a promise to wait for before ending
function send ({ bytes = 0, chunk = CHUNK, empty = false, fail = null, until = null, onEnd = () => {} }) {
  let offset = 0
  let emptySent = false

  async function end (cb) {
    await until
    onEnd()
    cb(fail || true)
  }

  function next (cb) {
    if (empty && (emptySent = !emptySent)) return cb(null, Buffer.alloc(0))
    if (offset >= bytes) return end(cb)
    const item = pattern.at(offset, Math.min(chunk, bytes - offset))
    offset += item.length
    cb(null, item)
  }

  return (abort, cb) => abort ? cb(abort) : setImmediate(next, cb)
}

// Reads to the end, keeping counts and (with `hash`) a digest but not the bytes. `check(item, offset)` may return what
// is wrong with an item, which ends the reading. `read` is counted up on the way, and handed to `done(error, read)`.
function tally ({ hash = true, check = () => null, read = { bytes: 0, items: 0 } }, done) {
  const digest = hash ? createHash('sha256') : null
  let wrong = null

  return pull.drain(item => {
    wrong = check(item, read.bytes)
    if (wrong) return false
    read.bytes += item.length
    read.items++
    if (digest) digest.update(item)
  }, err => {
    if (digest) read.sha256 = digest.digest('hex')
    done(wrong || err, read)
  })
}

module.exports = { CHUNK, send, tally }
