'use strict'

/* global Libp2PWebsocketStar, Multiaddr, PeerId */

// The npm client in a page, as it is published for browsers. It has the same interface as the node in WebAssembly, and asks
// the native peer for the same: see node/src/request.rs.

const CHUNK = 64 * 1024
const PING = 64

const toError = reason => reason instanceof Error ? reason : new Error(String(reason))

function promised (call) {
  return new Promise((resolve, reject) => {
    call((reason, value) => reason ? reject(toError(reason)) : resolve(value))
  })
}

function request (kind, bytes = 0) {
  const encoded = new DataView(new ArrayBuffer(9))
  encoded.setUint8(0, kind.charCodeAt(0))
  encoded.setBigUint64(1, BigInt(bytes))
  return new Uint8Array(encoded.buffer)
}

// A later turn of the event loop. A timer would wait 4 ms.
const turn = (() => {
  const { port1, port2 } = new MessageChannel()
  let done = null
  port1.onmessage = () => done()
  return () => new Promise(resolve => {
    done = resolve
    port2.postMessage(null)
  })
})()

// A pull stream of what is sent.
class Outgoing {
  constructor () {
    this.answers = []
    this.asked = null
    this.source = (abort, asked) => {
      if (abort) return asked(abort)
      this.asked = asked
      this.answer()
    }
  }

  answer () {
    if (!this.asked || this.answers.length === 0) return
    const asked = this.asked
    this.asked = null
    asked(...this.answers.shift())
  }

  send (item) {
    this.answers.push([null, item])
    this.answer()
  }

  end () {
    this.answers.push([true])
    this.answer()
  }
}

// One connection.
class Stream {
  constructor (connection) {
    this.outgoing = new Outgoing()
    this.incoming = connection.source
    connection.sink(this.outgoing.source)
  }

  send (item) {
    this.outgoing.send(item)
  }

  // Ends our direction, and waits for the other one's end.
  async end () {
    this.outgoing.end()
    if (await this.read() !== null) throw new Error('bytes that were not sent')
  }

  // The next item; `null` at the end.
  read () {
    return new Promise((resolve, reject) => {
      this.incoming(null, (end, item) => {
        if (end && end !== true) reject(toError(end))
        else resolve(end ? null : item)
      })
    })
  }

  // Tells the other end what it is to do, and waits until it is ready.
  async ask (kind, bytes) {
    this.send(request(kind, bytes))
    if ((await this.read()).length !== 1) throw new Error('the peer is not ready')
  }
}

class Peer {
  constructor (transport, to) {
    this.transport = transport
    this.to = to
  }

  async open (kind, bytes) {
    let connection = null
    await promised(done => { connection = this.transport.dial(this.to, done) })
    const stream = new Stream(connection)
    await stream.ask(kind, bytes)
    return stream
  }

  async up (bytes) {
    const stream = await this.open('s')
    const item = new Uint8Array(CHUNK).fill(0x5a)
    const started = performance.now()
    for (let sent = 0; sent < bytes; sent += CHUNK) {
      stream.send(item.subarray(0, Math.min(CHUNK, bytes - sent)))
      await turn()
    }
    await stream.end()
    return performance.now() - started
  }

  async down (bytes) {
    const stream = await this.open('d', bytes)
    const started = performance.now()
    stream.send(Uint8Array.of('g'.charCodeAt(0)))
    let read = 0
    for (let item = await stream.read(); item !== null; item = await stream.read()) read += item.length
    const took = performance.now() - started
    await stream.end()
    if (read !== bytes) throw new Error(`${read} of ${bytes} bytes came`)
    return took
  }

  async roundTrips (count) {
    const stream = await this.open('e')
    const ping = new Uint8Array(PING).fill(7)
    const started = performance.now()
    for (let n = 0; n < count; n++) {
      stream.send(ping)
      for (let read = 0; read < PING;) {
        const item = await stream.read()
        if (item === null) throw new Error('the peer has ended')
        read += item.length
      }
    }
    const took = performance.now() - started
    await stream.end()
    return took
  }
}

window.startRaw = async (rendezvous, to) => {
  const id = await promised(done => PeerId.create({ bits: 2048, keyType: 'ed25519' }, done))
  const transport = new Libp2PWebsocketStar({ id })
  const listener = transport.createListener(() => {})
  // The callback of `listen` gets the error, too.
  listener.on('error', () => {})
  const address = Multiaddr(`${rendezvous}/ipfs/${id.toB58String()}`)
  await promised(done => listener.listen(address, done))
  return new Peer(transport, Multiaddr(to))
}
