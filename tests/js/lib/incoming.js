'use strict'

// What the peer does with the connections it is dialled on: one mode at a time, for the dials that follow.

const pull = require('pull-stream')
const { emit, describe } = require('./lines')
const { send, tally } = require('./streams')

const ECHO_AFTER_END_LIMIT = 16 * 1024 * 1024

let mode = { incoming: 'echo' }

// Reads everything, and calls `done` after it has been reported.
function readAll (conn, from, { check, done = () => {} } = {}) {
  const { incoming, hash } = mode
  pull(conn, tally({ hash, check }, (err, read) => {
    emit(Object.assign({ event: 'received', mode: incoming, from, error: err ? describe(err) : null }, read))
    done(err)
  }))
}

// One item a turn of the event loop: the client's sink recurses for as long as its source answers at once.
function answer (err, items, conn) {
  const paced = pull.asyncMap((item, cb) => setImmediate(cb, null, item))
  pull(err ? pull.error(describe(err)) : pull.values(items), paced, conn)
}

const modes = {
  echo: conn => pull(conn, conn),

  // The end of our direction tells the dialer that everything was read.
  sink (conn, from) {
    const until = new Promise(resolve => readAll(conn, from, { done: resolve }))
    pull(send({ until }), conn)
  },

  source (conn, from) {
    readAll(conn, from)
    pull(send(mode), conn)
  },

  stall () {},

  'echo-after-end' (conn, from) {
    const items = []
    const keep = (item, offset) => {
      if (offset + item.length > ECHO_AFTER_END_LIMIT) return `more than ${ECHO_AFTER_END_LIMIT} bytes`
      items.push(item)
      return null
    }
    readAll(conn, from, { check: keep, done: err => answer(err, items, conn) })
  },

  'close-at-once' (conn) {
    conn.source(true, () => {})
    pull(pull.empty(), conn)
  }
}

// What happens instead of a connection: the published client always accepts, so these replace its answer.
const refusals = {
  ignore: () => {},
  refuse: cb => cb(mode.reason || 'refused')
}

function setMode (command) {
  if (!modes[command.incoming] && !refusals[command.incoming]) throw new Error(`no incoming mode ${command.incoming}`)
  mode = command
}

// Puts the mode between the listener and the dials that come in. Called before `listen`.
function attach (listener) {
  const accept = listener._incommingDial.bind(listener)
  let from = null

  listener._incommingDial = (socket, dialId, dialFrom, cb) => {
    emit({ event: 'incoming', from: dialFrom, mode: mode.incoming })
    from = dialFrom
    if (refusals[mode.incoming]) refusals[mode.incoming](cb)
    else accept(socket, dialId, dialFrom, cb)
  }
  listener.on('connection', conn => modes[mode.incoming](conn, from))
}

module.exports = { attach, setMode }
