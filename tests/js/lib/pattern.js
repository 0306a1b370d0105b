'use strict'

// The deterministic bytes every test transfer is made of, so that either side can check what it reads without having
// seen what was sent. The byte at offset i is (i * 31 + (i >> 8) * 7 + (i >> 16) * 13) & 0xff, repeating every 2^24.

const PERIOD = 1 << 24

let table = null

function fill () {
  table = Buffer.allocUnsafe(PERIOD)
  for (let i = 0; i < PERIOD; i++) table[i] = (i * 31 + (i >> 8) * 7 + (i >> 16) * 13) & 0xff
}

// The `length` pattern bytes from `offset` on: a view where it can be, a copy where the range crosses a period.
function at (offset, length) {
  if (!table) fill()
  const start = offset % PERIOD
  const first = table.subarray(start, start + length)
  return first.length === length ? first : Buffer.concat([first, at(0, length - first.length)])
}

module.exports = { at, matches: (offset, bytes) => at(offset, bytes.length).equals(bytes) }
