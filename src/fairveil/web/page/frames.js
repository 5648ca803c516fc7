// A frame that a person puts around a face that was missed, with mouse, finger or keyboard.

import { make } from "/page/elements.js";

const STEP = 0.01; // of the photo's longer side, for each press of an arrow key
const TAP = 6; // pixels of the screen below which a movement of the mouse draws nothing

/** A frame in whole pixels of its photo, of which it never leaves any part. */
export class DrawnFrame {
  /**
   * @param box left, top, width and height.
   * @param bounds of the photo: `size`, width and height; `smallest`, the least side of a frame; `name`.
   * @param on `change` and `remove` are told; `locked` says whether it must stay as it is.
   */
  constructor(box, bounds, on) {
    Object.assign(this, { ...bounds, on, chosen: true, number: 0 });
    this.tag = make("b", {});
    this.corner = make("span", { className: "corner" });
    this.element = make("div", { className: "frame drawn", tabIndex: 0, role: "application", "aria-roledescription": "frame" }, this.tag, this.corner);
    this.element.onkeydown = (event) => this.#key(event);
    this.element.onpointerdown = (event) => this.#drag(event);
    this.put(box);
  }

  /** Place it, as near as the photo allows. */
  put([left, top, width, height]) {
    const [across, down] = this.size;
    const fit = (length, most) => Math.round(Math.min(Math.max(length, this.smallest), most));
    width = fit(width, across);
    height = fit(height, down);
    left = Math.round(Math.min(Math.max(left, 0), across - width));
    top = Math.round(Math.min(Math.max(top, 0), down - height));
    this.box = [left, top, width, height];
    const { style } = this.element;
    style.left = `${(100 * left) / across}%`;
    style.top = `${(100 * top) / down}%`;
    style.width = `${(100 * width) / across}%`;
    style.height = `${(100 * height) / down}%`;
    this.#name();
    this.on.change(this);
  }

  /** From one corner to the one across, in pixels of the photo, whichever way. */
  stretch([x0, y0], [x1, y1]) {
    this.put([Math.min(x0, x1), Math.min(y0, y1), Math.abs(x1 - x0), Math.abs(y1 - y0)]);
  }

  count(number) {
    this.number = number;
    this.tag.textContent = String(number);
    this.#name();
  }

  choose(chosen) {
    this.chosen = chosen;
    this.element.classList.toggle("off", !chosen);
  }

  #name() {
    const [left, top, width, height] = this.box;
    const [across, down] = this.size;
    const share = (part, whole) => `${Math.round((100 * part) / whole)} %`;
    const place = `${share(left + width / 2, across)} from the left, ${share(top + height / 2, down)} from the top`;
    this.element.setAttribute("aria-label", `Frame of face ${this.number} of ${this.name}: ${place}, ${share(width, across)} wide, ${share(height, down)} high`);
  }

  #key(event) {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const removes = event.key === "Delete" || event.key === "Backspace";
    if ((!steps && !removes) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault(); // or the page would scroll
    if (this.on.locked()) return;
    if (removes) return this.on.remove(this);
    const [dx, dy] = steps.map((step) => step * Math.max(1, STEP * Math.max(...this.size)));
    const [left, top, width, height] = this.box;
    if (!event.shiftKey) return this.put([left + dx, top + dy, width, height]);
    const [across, down] = this.size; // its left upper corner stays
    this.put([left, top, Math.min(width + dx, across - left), Math.min(height + dy, down - top)]);
  }

  #drag(event) {
    if (event.button || this.on.locked()) return;
    event.preventDefault();
    event.stopPropagation(); // or a new frame would be drawn
    this.element.focus({ preventScroll: true });
    const [left, top, width, height] = this.box;
    const resizes = event.target === this.corner;
    const picture = this.element.parentElement;
    const [x, y] = pointIn(picture, this.size, event);
    const [across, down] = this.size;
    follow(this.element, event, (moved) => {
      const [nowX, nowY] = pointIn(picture, this.size, moved);
      if (!resizes) return this.put([left + nowX - x, top + nowY - y, width, height]);
      this.put([left, top, Math.min(width + nowX - x, across - left), Math.min(height + nowY - y, down - top)]);
    });
  }
}

/** Let frames be drawn on a picture with the mouse; a finger scrolls the page there. `begin` makes one at a corner. */
export function drawOn(picture, size, locked, begin) {
  picture.addEventListener("pointerdown", (event) => {
    if (event.button || event.pointerType === "touch" || locked() || event.target.closest(".frame")) return;
    event.preventDefault(); // or the picture would be dragged
    const corner = pointIn(picture, size, event);
    let frame = null;
    follow(picture, event, (moved) => {
      if (!frame && Math.hypot(moved.clientX - event.clientX, moved.clientY - event.clientY) < TAP) return;
      frame ??= begin(corner);
      frame.stretch(corner, pointIn(picture, size, moved));
    }, () => frame?.element.focus({ preventScroll: true }));
  });
}

/** Where the pointer is, in pixels of the photo that a picture shows, and within it. */
function pointIn(picture, size, event) {
  const { left, top, width, height } = picture.getBoundingClientRect();
  const within = (share, whole) => Math.min(Math.max(share, 0), 1) * whole;
  return [within((event.clientX - left) / width, size[0]), within((event.clientY - top) / height, size[1])];
}

/** Follow a pointer that was pressed until it is let go. */
function follow(element, event, onMove, onEnd = () => {}) {
  const end = () => {
    element.removeEventListener("pointermove", move);
    for (const kind of ["pointerup", "pointercancel"]) element.removeEventListener(kind, stop);
    onEnd();
  };
  const move = (moved) => moved.pointerId === event.pointerId && onMove(moved);
  const stop = (ended) => ended.pointerId === event.pointerId && end();
  element.setPointerCapture(event.pointerId);
  element.addEventListener("pointermove", move);
  for (const kind of ["pointerup", "pointercancel"]) element.addEventListener(kind, stop);
}
