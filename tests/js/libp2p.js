'use strict'

// A js-libp2p 0.26 node that does what the commands on stdin say and tells what happens on stdout. The commands and
// events are listed in tests/support/libp2p_js.rs, which drives it.

const Libp2p = require('libp2p')
const Mplex = require('libp2p-mplex')
const PullMplex = require('pull-mplex')
const Floodsub = require('libp2p-floodsub')
const Gossipsub = require('libp2p-gossipsub')
const PeerInfo = require('peer-info')
const Secio = require('libp2p-secio')
const WebsocketStar = require('libp2p-websocket-star')
const pull = require('pull-stream')
const { createId } = require('./lib/id')
const { emit, describe, obey } = require('./lib/lines')
const pattern = require('./lib/pattern')
const { send, tally } = require('./lib/streams')

const ECHO = '/echo/1.0.0'
const MUXERS = { 'libp2p-mplex': Mplex, 'pull-mplex': PullMplex }
const PUBSUBS = { floodsub: Floodsub, gossipsub: Gossipsub }

let node = null

const text = peerInfo => peerInfo.id.toB58String()

// The node keeps its pubsub to itself, and with it the news of who has subscribed.
function telling (Pubsub) {
  return function (...args) {
    const pubsub = new Pubsub(...args)
    const changed = (peer, topics) => emit({ event: 'subscription', peer: text(peer), topics: Array.from(topics) })
    pubsub.on('floodsub:subscription-change', changed)
    pubsub.on('pubsub:subscription-change', changed)
    return pubsub
  }
}

function told (event, peerInfo) {
  const addrs = peerInfo.multiaddrs.toArray().map(String)
  emit({ event, peer: text(peerInfo), addrs, protocols: Array.from(peerInfo.protocols) })
}

async function start ({ addr, keyType = 'rsa', muxer = 'libp2p-mplex', pubsub = 'floodsub', encryption = 'secio' }) {
  const peerInfo = new PeerInfo(await createId(keyType))
  peerInfo.multiaddrs.add(`${addr}/ipfs/${text(peerInfo)}`)
  const transport = new WebsocketStar({ id: peerInfo.id })
  node = new Libp2p({
    peerInfo,
    modules: {
      transport: [transport],
      streamMuxer: [MUXERS[muxer]],
      connEncryption: encryption === 'secio' ? [Secio] : [],
      peerDiscovery: [transport.discovery],
      pubsub: telling(PUBSUBS[pubsub])
    },
    config: { peerDiscovery: { autoDial: false }, relay: { enabled: false } }
  })
  node.on('error', err => emit({ event: 'error', error: describe(err) }))
  node.on('peer:discovery', peer => emit({ event: 'discovered', peer: text(peer) }))
  node.on('peer:connect', peer => told('connected', peer))
  node.on('peer:disconnect', peer => emit({ event: 'disconnected', peer: text(peer) }))
  node.handle(ECHO, (protocol, conn) => pull(conn, conn))
  await node.start()
  emit({ event: 'started', peer: text(peerInfo), addr: `${addr}/ipfs/${text(peerInfo)}` })
}

async function dial ({ to }) {
  await node.dial(to)
  emit({ event: 'dialled', to })
}

async function ping ({ to, count = 3 }) {
  const ping = await node.ping(to)
  await new Promise((resolve, reject) => {
    ping.on('error', reject)
    ping.on('ping', () => --count === 0 && resolve(ping.stop()))
    ping.start()
  })
  emit({ event: 'pinged', to })
}

// The streams run side by side; what comes back on each is checked, and that it ends.
async function echo ({ to, streams = 1, bytes = 0 }) {
  await Promise.all(Array.from({ length: streams }, async () => {
    const conn = await node.dialProtocol(to, ECHO)
    const check = (item, offset) => pattern.matches(offset, item) ? null : `wrong bytes at offset ${offset}`
    const read = await new Promise((resolve, reject) => {
      pull(conn, tally({ hash: false, check }, (err, read) => err ? reject(new Error(describe(err))) : resolve(read)))
      pull(send({ bytes }), conn)
    })
    if (read.bytes !== bytes) throw new Error(`the echo ended after ${read.bytes} of ${bytes} bytes`)
  }))
  emit({ event: 'echoed', to, streams, bytes })
}

async function subscribe ({ topic }) {
  const message = ({ from, data }) => emit({ event: 'message', topic, from, data: data.toString() })
  await node.pubsub.subscribe(topic, message, null)
  emit({ event: 'subscribed', topic })
}

async function publish ({ topic, data }) {
  await node.pubsub.publish(topic, data)
  emit({ event: 'published', topic })
}

const commands = { start, dial, ping, echo, subscribe, publish }

obey(commands)
