'use strict'

// JSON lines: commands arrive on stdin, events leave on stdout, and the process ends when its stdin does, so that it
// never outlives the test that started it.

const readline = require('readline')

// Nothing but events may reach stdout, whatever a dependency prints.
console.log = console.info = console.error

function emit (event) {
  process.stdout.write(JSON.stringify(event) + '\n')
}

// Does what each line's `cmd` names, with the whole line as the argument. What fails is told.
function obey (commands) {
  const run = async command => {
    const { cmd } = command
    try {
      if (!commands[cmd]) throw new Error('no such command')
      await commands[cmd](command)
    } catch (err) {
      emit({ event: 'error', cmd, error: describe(err) })
    }
  }
  readline.createInterface({ input: process.stdin })
    .on('line', line => run(JSON.parse(line)))
    .on('close', () => process.exit(0))
}

// The server sends reasons as strings, as `{}` for an Error it could not serialise, or not at all.
function describe (reason) {
  if (reason instanceof Error) return reason.message
  return typeof reason === 'string' ? reason : JSON.stringify(reason)
}

module.exports = { emit, describe, obey }
