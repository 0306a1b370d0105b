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
let isPaused = false
let events
let retry

function version () {
  return $('figures').firstElementChild.dataset.version
}

// What is set anew is read out anew.
function say (text, isLive) {
  if ($('state').textContent === text) return
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
    if (response.ok && !isPaused && !isInUse($('peers'))) {
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
  events = new EventSource('/admin/events')
  for (const part of ['figures', 'pictures', 'users', 'refusals', 'cluster']) {
    // A server that is no node of a cluster shows none.
    if (!$(part)) continue
    events.addEventListener(part, ({ data }) => {
      say('live', true)
      if (part !== 'users' || !isInUse($(part))) $(part).innerHTML = data
      if (part === 'figures') refreshPeers()
    })
  }
  events.addEventListener('over', () => {
    events.close()
    $('pause').hidden = true
    say('you are logged out: reload', false)
  })
  events.addEventListener('error', () => {
    say('not live: trying again', false)
    // The browser tries again by itself unless the stream was refused.
    if (events.readyState === EventSource.CLOSED) retry = setTimeout(listen, RETRY)
  })
}

$('pause').addEventListener('click', () => {
  isPaused = !isPaused
  $('pause').textContent = isPaused ? 'Resume' : 'Pause'
  clearTimeout(retry)
  events.close()
  if (isPaused) {
    say('paused', false)
  } else {
    say('not live', false)
    listen()
  }
})
$('pause').hidden = false
listen()
