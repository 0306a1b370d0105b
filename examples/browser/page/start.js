// Starts the page's library, and shows what keeps it from running.
const fault = document.getElementById('fault')

function show (error) {
  console.error(error)
  const text = String(error?.message ?? error)
  fault.textContent = `This page has stopped: ${text} Reload it to start again.`
  fault.hidden = false
}

addEventListener('error', event => show(event.error ?? event.message))
addEventListener('unhandledrejection', event => show(event.reason))

try {
  const { default: load, run } = await import('./star_browser_example.js')
  await load({ module_or_path: 'star_browser_example_bg.wasm' })
  await run()
} catch (error) {
  show(error)
}
