'use strict'

// A bare socket.io client that speaks websocket-star by itself, of the version that the first argument names:
// `socket.io-client` (2.5, Engine.IO 3) or `socket.io-client-4` (Engine.IO 4). The commands and events are listed in
// tests/support/socketio.rs, which drives it.

const { generateKeyPairSync, sign } = require('crypto')
const bs58 = require('bs58')
const io = require(process.argv[2])
const { emit, describe, obey } = require('./lib/lines')
const { accept, dial } = require('./lib/bare')

// The protobuf of a libp2p Ed25519 public key, and its identity multihash, before the 32 bytes of the key.
const KEY_HEADER = Buffer.from('08011220', 'hex')
const ID_HEADER = Buffer.from('0024', 'hex')

const { publicKey, privateKey } = generateKeyPairSync('ed25519')
const key = Buffer.concat([KEY_HEADER, publicKey.export({ format: 'der', type: 'spki' }).subarray(-32)])
const peerId = bs58.encode(Buffer.concat([ID_HEADER, key]))

let socket = null
let addr = null
let incoming = { mode: 'echo' }

function request (...event) {
  return new Promise((resolve, reject) => {
    socket.emit(...event, (err, ...rest) => err ? reject(new Error(describe(err))) : resolve(rest))
  })
}

const commands = {
  connect ({ url, polling = false, forceBase64 = false, protocols }) {
    const transports = polling ? ['polling'] : ['websocket']
    socket = io(url, { transports, forceBase64, protocols, reconnectionDelay: 100, reconnectionDelayMax: 200 })
    socket.on('connect', () => emit({ event: 'connected', id: socket.id }))
    socket.on('connect_error', err => emit({ event: 'refused', error: err.message, status: (err.context || {}).status }))
    socket.on('disconnect', reason => emit({ event: 'disconnected', reason }))
    socket.on('ws-peer', addr => emit({ event: 'peer', addr }))
    socket.on('ss-incomming', (id, from, cb) => {
      emit({ event: 'incoming', from, id })
      accept(socket, id, cb, incoming)
    })
  },

  async join (command) {
    addr = `${command.addr}/ipfs/${peerId}`
    const [nonce] = await request('ss-join', addr, key.toString('hex'))
    const [, peers] = await request('ss-join', addr, sign(null, Buffer.from(nonce), privateKey).toString('hex'))
    emit({ event: 'joined', addr, peers })
  },

  async leave () {
    await request('ss-leave', addr)
    emit({ event: 'left', addr })
  },

  mode (command) {
    incoming = command
    emit({ event: 'mode', mode: incoming.mode })
  },

  async dial (command) {
    const { id } = command
    try {
      const read = await dial(socket, addr, command, request)
      emit({ event: 'dialled', id, ok: true, bytes: read })
    } catch (err) {
      emit({ event: 'dialled', id, ok: false, error: err.message })
    }
  },

  close () {
    socket.close()
    emit({ event: 'closed' })
  }
}

obey(commands)
