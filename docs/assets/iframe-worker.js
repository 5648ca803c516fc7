/* Search where pages are opened as files: browsers start no worker from a file, so the search runs in a hidden frame
   that speaks like one. Over HTTP nothing is changed. The theme looks for the name IFrameWorker. */
if (location.protocol === "file:") {
  window.IFrameWorker = class extends EventTarget {
    constructor(address) {
      super()
      const waiting = []
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.body.append(frame)
      const inside = frame.contentWindow
      inside.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }))
      const deliver = data => inside.dispatchEvent(new inside.MessageEvent("message", { data }))
      this.postMessage = data => waiting.push(data)
      this.terminate = () => frame.remove()
      const script = inside.document.createElement("script")
      script.src = new URL(address, location.href).href
      script.addEventListener("load", () => {
        this.postMessage = deliver
        waiting.splice(0).forEach(deliver)
      })
      inside.document.body.append(script)
    }
  }
  window.Worker = window.IFrameWorker
}
