'use strict'

// Several bare socket.io clients in one process, so that what happens at one of them is told before or after what
// happens at another. They join without a challenge. The first argument names the version, as for socketio.js; the
// commands and events are listed in tests/support/several.rs, which drives it.

const io = require(process.argv[2])
const { emit, describe, obey } = require('./lib/lines')

const sockets = {}

function request (name, ...event) {
  return new Promise((resolve, reject) => {
    sockets[name].emit(...event, (err, ...rest) => err ? reject(new Error(describe(err))) : resolve(rest))
  })
}

const commands = {
  connect ({ name, url }) {
    const socket = sockets[name] = io(url, { transports: ['websocket'], forceNew: true })
    socket.on('connect', () => emit({ event: 'connected', name }))
    socket.on('ws-peer', addr => emit({ event: 'peer', name, addr }))
  },

  async join ({ name, addr }) {
    const [, peers] = await request(name, 'ss-join', addr, '')
    emit({ event: 'joined', name, addr, peers })
  },

  async leave ({ name, addr }) {
    await request(name, 'ss-leave', addr)
    emit({ event: 'left', name, addr })
  }
}

obey(commands)
