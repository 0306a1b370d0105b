'use strict'
const $ = id => document.getElementById(id)
// Nothing moves under a pointer, or away from the focus.
const isInUse = element => element.matches(':hover, :focus-within')
// How long nothing is asked for again: the list, and a stream that was refused.
const LIST_PAUSE = 3000
const RETRY = 10000

let shown = version()
let isAsking = false
let asked = 0

function version () {
  return $('figures').firstElementChild.dataset.version
}

function say (text, isLive) {
  $('state').textContent = text
  $('state').className = isLive ? 'live' : ''
}

// Peers have joined or left: the list is asked for again.
async function refreshPeers () {
  const wanted = version()
  const isEarly = Date.now() - asked < LIST_PAUSE
  if (wanted === shown || isAsking || isEarly || document.hidden || isInUse($('peers'))) return
  isAsking = true
  asked = Date.now()
  try {
    const response = await fetch('/admin/peers' + location.search)
    const html = await response.text()
    if (response.ok && !isInUse($('peers'))) {
      $('peers').innerHTML = html
      shown = wanted
    }
  } catch (err) {
    // The stream tells whether the server is there.
  } finally {
    isAsking = false
  }
}

function listen () {
  const events = new EventSource('/admin/events')
  for (const part of ['figures', 'pictures', 'users', 'refusals']) {
    events.addEventListener(part, ({ data }) => {
      say('live', true)
      if (part !== 'users' || !isInUse($(part))) $(part).innerHTML = data
      if (part === 'figures') refreshPeers()
    })
  }
  events.addEventListener('over', () => {
    events.close()
    say('you are logged out: reload', false)
  })
  events.addEventListener('error', () => {
    say('not live: trying again', false)
    // The browser tries again by itself unless the stream was refused.
    if (events.readyState === EventSource.CLOSED) setTimeout(listen, RETRY)
  })
}
listen()
