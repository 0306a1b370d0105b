'use strict'

// Ids of peers. libp2p-crypto makes RSA keys in JavaScript, which takes seconds; Node.js makes the same keys in a
// fraction of one.

const { generateKeyPair } = require('crypto')
const { createRequire } = require('module')
const { promisify } = require('util')
const PeerId = require('peer-id')

// That of peer-id.
const crypto = createRequire(require.resolve('peer-id'))('libp2p-crypto')

const der = { type: 'pkcs1', format: 'der' }

async function createId (keyType) {
  if (keyType !== 'rsa') return promisify(PeerId.create)({ keyType })
  const options = { modulusLength: 2048, privateKeyEncoding: der, publicKeyEncoding: der }
  const { privateKey } = await promisify(generateKeyPair)('rsa', options)
  const key = await promisify(crypto.keys.supportedKeys.rsa.unmarshalRsaPrivateKey)(privateKey)
  return promisify(PeerId.createFromPrivKey)(crypto.keys.marshalPrivateKey(key, 'rsa'))
}

module.exports = { createId }
