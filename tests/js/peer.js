'use strict'

// A websocket-star client (the published one) that does what the commands on stdin say and tells what happens on
// stdout. The first argument names its module, if it is not today's. The commands and events are listed in
// tests/support/js.rs, which drives it.

const multiaddr = require('multiaddr')
const WebsocketStar = require(process.argv[2] || 'libp2p-websocket-star')
const { attach, setMode } = require('./lib/incoming')
const { dial } = require('./lib/dial')
const { createId } = require('./lib/id')
const { emit, describe, obey } = require('./lib/lines')
const { measure } = require('./lib/measure')

let id = null
let transport = null
let listener = null

// The published client joins anew after every reconnect and tells nobody unless it fails.
function announceRejoins (listener) {
  const crypto = listener._crypto.bind(listener)
  listener._crypto = done => crypto((err, ...rest) => {
    done(err, ...rest)
    if (!err) emit({ event: 'rejoined', addr: listener.ma.toString() })
  })
}

async function listen ({ cmd, addr, keyType = 'rsa', allowDisabledChallenge = false }) {
  id = id || await createId(keyType)
  transport = new WebsocketStar({ id, allowJoinWithDisabledChallenge: allowDisabledChallenge })
  listener = transport.createListener(() => {})
  listener.on('peer', addr => emit({ event: 'peer', addr }))
  listener.on('error', err => emit({ event: 'error', cmd, error: describe(err) }))
  attach(listener)

  const ma = multiaddr(`${addr}/ipfs/${id.toB58String()}`)
  listener.listen(ma, err => {
    if (err) return // the listener's `error` event has told
    listener.io.on('disconnect', reason => emit({ event: 'disconnected', reason }))
    announceRejoins(listener)
    emit({ event: 'listening', addr: ma.toString() })
  })
}

// Listens at an address, closes, and listens again at once, so many times.
async function relisten ({ cmd, addr, times }) {
  id = id || await createId('ed25519')
  const ma = multiaddr(`${addr}/ipfs/${id.toB58String()}`)
  const listener = new WebsocketStar({ id, allowJoinWithDisabledChallenge: true }).createListener(() => {})
  listener.on('error', err => emit({ event: 'error', cmd, error: describe(err) }))
  for (let n = 0; n < times; n++) {
    await new Promise((resolve, reject) => listener.listen(ma, err => err ? reject(err) : resolve()))
    await new Promise(resolve => listener.close(resolve))
  }
  emit({ event: 'relistened', addr: ma.toString() })
}

function webSocket () {
  return listener.io.io.engine.transport.ws
}

const commands = {
  listen,
  relisten,

  mode (command) {
    setMode(command)
    emit({ event: 'mode', incoming: command.incoming })
  },

  dial: command => dial(transport, command),

  async measure (command) {
    emit(Object.assign({ event: 'measured' }, await measure(transport, command)))
  },

  // The server has no answer to `ss-leave`: a dial it must refuse shows that it has been dealt with.
  leave () {
    const addr = listener.ma.toString()
    listener.io.emit('ss-leave', addr)
    listener.io.emit('ss-dial', addr, addr, `${addr} left`, refusal => emit({ event: 'left', addr, refusal }))
  },

  // The listener waits for its dials to end. When the WebSocket's closing handshake is done, the server knows.
  close () {
    webSocket().once('close', () => emit({ event: 'closed' }))
    listener.close()
  },

  // What the client does when the last connection of a closed listener ends: it says so to the server, then closes.
  down () {
    listener._down()
    emit({ event: 'down' })
  },

  // The link breaks without a word; the client connects and joins again on its own, about a second later.
  drop: () => webSocket().terminate(),

  // `pause` stops reading from the network; a `stall`ed stream only piles up in this process.
  pause: () => webSocket()._socket.pause(),
  resume: () => webSocket()._socket.resume()
}

obey(commands)
