'use strict'

// JSON lines: commands arrive on stdin, events leave on stdout, and the process ends when its stdin does, so that it
// never outlives the test that started it.

const readline = require('readline')

// Nothing but events may reach stdout, whatever a dependency prints.
console.log = console.info = console.error

function emit (event) {
  process.stdout.write(JSON.stringify(event) + '\n')
}

function onCommand (handle) {
  readline.createInterface({ input: process.stdin })
    .on('line', line => handle(JSON.parse(line)))
    .on('close', () => process.exit(0))
}

// The server sends reasons as strings, as `{}` for an Error it could not serialise, or not at all.
function describe (reason) {
  if (reason instanceof Error) return reason.message
  return typeof reason === 'string' ? reason : JSON.stringify(reason)
}

module.exports = { emit, onCommand, describe }
