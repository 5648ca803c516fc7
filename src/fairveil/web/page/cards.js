// A card for each photo: its faces to choose from, and what became of it.

import { make } from "/page/elements.js";
import { DrawnFrame, drawOn } from "/page/frames.js";

const MIDDLE = 0.3; // of the photo's shorter side: the height of a frame that a button puts in the middle

const HOW =
  "Drag a frame onto its face, from the chin to the forehead, and its corner to resize it. On the keyboard, arrow keys " +
  "move it, Shift and an arrow key resize it, and Delete removes it. With a mouse, frames can be drawn on the photo.";

export const count = (number, thing) => `${number} ${thing}${number === 1 ? "" : "s"}`;

/** A card that follows its photo's state; only what changed is made anew, so that the keyboard's place is kept. */
export class Card {
  constructor(photo, server, onChoice, onProblem) {
    Object.assign(this, { photo, server, onChoice, chosen: new Set(photo.faces.keys()), shape: "" });
    this.drawn = []; // frames that the person made, in the order of their numbers
    this.drawing = false; // whether the photo with its frames is shown although there is a result to compare
    this.status = make("p", { className: "quiet" });
    this.bar = make("progress", { max: 1, "aria-label": `Progress of ${photo.name}` });
    this.body = make("div", { className: "body" });
    const remove = make("button", { "aria-label": `Remove ${photo.name} from this page` }, "Remove");
    remove.onclick = () => server.remove(photo.id).catch(onProblem);
    this.element = make(
      "li",
      { className: "card" },
      make("header", {}, make("div", {}, make("h3", {}, photo.name), this.status), remove),
      this.bar,
      this.body,
    );
  }

  /** Whether anything would come of veiling it now. */
  wants(strength) {
    const { stage, result, faces } = this.photo;
    if (stage === "ready") return true;
    const earlier = result?.chosen.filter((face) => face < faces.length);
    const same =
      result &&
      earlier.length === this.chosen.size &&
      earlier.every((face) => this.chosen.has(face)) &&
      JSON.stringify(result.frames) === JSON.stringify(this.frames);
    return stage === "done" && !(same && (result.strength === strength || !this.count));
  }

  /** Frames to veil that the person made, each as left, top, width and height. */
  get frames() {
    return this.drawn.filter((frame) => frame.chosen).map((frame) => frame.box);
  }

  /** How many faces are to be veiled. */
  get count() {
    return this.chosen.size + this.frames.length;
  }

  update(photo) {
    if (!this.photo.faces.length && photo.faces.length) this.chosen = new Set(photo.faces.keys());
    this.photo = photo;
    this.working = ["waiting", "veiling", "measuring"].includes(photo.stage);
    this.status.textContent = photo.problem || this.#words();
    this.status.classList.toggle("problem", Boolean(photo.problem));
    this.bar.hidden = !this.working;
    this.bar.value = photo.progress;
    const shape = `${photo.faces.length} ${photo.result?.run} ${photo.size}`;
    if (shape !== this.shape && photo.size) {
      this.shape = shape;
      this.drawing = false;
      this.#show();
    }
    this.#lock();
  }

  #show() {
    this.body.replaceChildren(this.photo.result && !this.drawing ? this.#comparison() : this.#framed(), this.#side());
  }

  #lock() {
    // Not `disabled`, which would take the keyboard's place away.
    for (const control of this.body.querySelectorAll(".faces :is(input, button)")) control.setAttribute("aria-disabled", this.working);
  }

  #words() {
    const { stage, faces, result } = this.photo;
    if (stage === "looking") return "Looking for faces …";
    if (stage === "waiting") return "Waits for its turn.";
    if (stage === "veiling") return "Veiling …";
    if (stage === "measuring") return "Asking who still recognizes it …";
    if (stage === "done" && !result.chosen.length) return "Done: location, serial numbers and the like are taken out.";
    if (stage === "done") return `Done: ${count(result.chosen.length, "face")} veiled.`;
    if (!faces.length) return "No face was found. If there is one, frame it by hand, or it stays as it is. Location and the like can be taken out.";
    return `${count(faces.length, "face")} found. Is one missing? Frame it by hand, or it stays as it is.`;
  }

  #picture(run, name) {
    return this.server.picture(this.photo.id, run, name);
  }

  /** Where a picture of the photo is shown, as large as it will be, so that nothing jumps when it arrives. */
  #space(className, ...children) {
    const [width, height] = this.photo.size;
    const space = make("div", { className }, ...children);
    space.style.setProperty("--width", `${width}px`);
    space.style.setProperty("--ratio", width / height);
    return space;
  }

  #framed() {
    const picture = this.#space("picture", make("img", { loading: "lazy", src: this.#picture("original", "before"), alt: this.photo.name }));
    const [width, height] = this.photo.size;
    this.marks = this.photo.faces.map(([x0, y0, x1, y1], face) => {
      const frame = make("label", { className: "frame", for: this.#idOf(face) }, make("b", {}, String(face + 1)));
      const [left, top] = [Math.max(0, x0), Math.max(0, y0)];
      frame.style.left = `${(100 * left) / width}%`;
      frame.style.top = `${(100 * top) / height}%`;
      frame.style.width = `${(100 * (Math.min(width, x1) - left)) / width}%`;
      frame.style.height = `${(100 * (Math.min(height, y1) - top)) / height}%`;
      return frame;
    });
    picture.append(...this.marks, ...this.drawn.map((frame) => frame.element));
    if (this.#hasRoom()) drawOn(picture, this.photo.size, () => this.working, ([x, y]) => this.#add([x, y, 0, 0]));
    return picture;
  }

  #comparison() {
    const { name, result } = this.photo;
    const before = make("img", { loading: "lazy", alt: `${name} before` });
    const after = make("img", { loading: "lazy", alt: `${name} after`, className: "after" });
    const slider = make("input", { type: "range", min: 0, max: 100, value: 50, "aria-label": `Compare ${name}: before on the left, after on the right` });
    const frame = this.#space(
      "picture compare",
      before,
      after,
      slider,
      make("div", { className: "handle" }),
      make("span", { className: "tag left" }, "before"),
      make("span", { className: "tag right" }, "after"),
    );
    slider.oninput = () => frame.style.setProperty("--cut", `${slider.value}%`);
    const views = make("div", { className: "views", role: "group", "aria-label": `What to compare of ${name}` });
    const show = (ending, pressed, drawn) => {
      before.src = this.#picture(drawn ? result.run : "original", `before${ending}`);
      after.src = this.#picture(result.run, `after${ending}`);
      frame.classList.toggle("close", ending !== "");
      for (const button of views.children) button.setAttribute("aria-pressed", button === pressed);
    };
    const drawnFrom = this.photo.faces.length;
    const choices = [["", "Whole photo", false], ...result.chosen.map((face) => [`-${face}`, `Face ${face + 1}`, face >= drawnFrom])];
    for (const [ending, words, drawn] of choices) {
      const button = make("button", { "aria-label": `${words} of ${name}, before and after` }, words);
      button.onclick = () => show(ending, button, drawn);
      views.append(button);
    }
    show("", views.firstChild, false);
    this.marks = [];
    return make("div", {}, frame, result.chosen.length ? views : "");
  }

  #side() {
    const side = make("div", {});
    const { result, id, name } = this.photo;
    if (result) {
      const faces = this.photo.faces.length + result.frames.length;
      for (const remark of result.remarks) side.append(make("p", { className: "remark" }, make("strong", {}, remark)));
      side.append(...result.faces.map((face, place) => verdict(face, result.chosen[place], faces)));
      for (const note of result.notes) side.append(make("p", { className: "quiet" }, note));
      const file = make("a", { className: "button main", href: this.server.file(id, result.run), download: result.name, "aria-label": `Download photo ${result.name}` }, "Download photo");
      const actions = make("div", { className: "actions" }, file);
      if (result.chosen.length) {
        actions.append(make("a", { className: "button", href: this.server.receipt(id, result.run), download: "", "aria-label": `All figures (.html) of ${name}` }, "All figures (.html)"));
      }
      side.append(actions);
    }
    if (this.photo.faces.length || this.#hasRoom()) side.append(this.#choice());
    return side;
  }

  /** Whether the photo is large enough for a face to be framed in it. */
  #hasRoom() {
    return Math.min(...this.photo.size) >= this.server.smallest_frame;
  }

  /** A new frame, and a place for it among the faces. */
  #add(box) {
    const { size, name } = this.photo;
    const on = { change: () => this.#changed(), remove: (frame) => this.#remove(frame), locked: () => this.working };
    const frame = new DrawnFrame(box, { size, name, smallest: this.server.smallest_frame }, on);
    this.drawn.push(frame);
    this.body.querySelector(".picture").append(frame.element);
    this.#renew();
    return frame;
  }

  #addInTheMiddle() {
    if (this.photo.result && !this.drawing) {
      this.drawing = true;
      this.#show();
    }
    const [width, height] = this.photo.size;
    const high = MIDDLE * Math.min(width, height);
    const aside = this.drawn.length * 0.2 * high; // so that none hides another
    const frame = this.#add([(width - 0.75 * high) / 2 + aside, (height - high) / 2 + aside, 0.75 * high, high]);
    frame.element.focus({ preventScroll: true });
    frame.element.scrollIntoView({ block: "nearest" });
  }

  #remove(frame) {
    this.drawn.splice(this.drawn.indexOf(frame), 1);
    frame.element.remove();
    this.#renew();
    this.body.querySelector(".add").focus();
  }

  /** The faces to choose from, made anew where there are more or fewer of them. */
  #renew() {
    const choice = this.#choice();
    this.body.querySelector(".faces").replaceWith(choice);
    this.#lock();
    this.onChoice();
  }

  #changed() {
    for (const frame of this.drawn) frame.sketch?.();
    this.onChoice();
  }

  /** What lies in a frame, small, as it was before. */
  #sketch(frame) {
    const canvas = make("canvas", { width: 96, height: 96 });
    const whole = make("img", { src: this.#picture("original", "before") });
    frame.sketch = () => {
      if (!whole.naturalWidth) return;
      const scale = whole.naturalWidth / this.photo.size[0];
      const [left, top, width, height] = frame.box.map((length) => length * scale);
      const side = Math.max(width, height);
      const context = canvas.getContext("2d");
      context.clearRect(0, 0, 96, 96);
      context.drawImage(whole, left + (width - side) / 2, top + (height - side) / 2, side, side, 0, 0, 96, 96);
    };
    whole.onload = frame.sketch;
    return canvas;
  }

  #drawnChoice(frame, place) {
    const { name, faces } = this.photo;
    frame.count(faces.length + place + 1);
    const words = `Face ${frame.number}`;
    const box = make("input", { type: "checkbox", checked: frame.chosen, "aria-label": `${words} of ${name}, framed by hand` });
    box.onclick = (event) => {
      if (this.working) event.preventDefault();
    };
    box.onchange = () => {
      frame.choose(box.checked);
      this.onChoice();
    };
    const remove = make("button", { type: "button", "aria-label": `Remove frame of face ${frame.number} of ${name}` }, "Remove frame");
    remove.onclick = () => this.working || this.#remove(frame);
    return make("div", { className: "drawn" }, make("label", {}, box, this.#sketch(frame), words), remove);
  }

  #choice() {
    const { name } = this.photo;
    const boxes = this.photo.faces.map((_, face) => {
      const box = make("input", { type: "checkbox", id: this.#idOf(face), checked: this.chosen.has(face), "aria-label": `Face ${face + 1} of ${name}` });
      const mark = () => this.marks[face]?.classList.toggle("off", !box.checked);
      box.onclick = (event) => {
        if (this.working) event.preventDefault();
      };
      box.onchange = () => {
        this.chosen[box.checked ? "add" : "delete"](face);
        mark();
        this.onChoice();
      };
      mark();
      return make("label", {}, box, make("img", { loading: "lazy", src: this.#picture("original", `before-${face}`), alt: "" }), `Face ${face + 1}`);
    });
    const all = make("button", { type: "button", "aria-label": `All faces of ${name}` }, "All");
    const none = make("button", { type: "button", "aria-label": `None of the faces of ${name}` }, "None");
    for (const button of [all, none]) {
      button.onclick = () => {
        for (const box of this.body.querySelectorAll(".faces input")) {
          if (box.checked !== (button === all)) box.click();
        }
      };
    }
    boxes.push(...this.drawn.map((frame, place) => this.#drawnChoice(frame, place)));
    if (boxes.length > 2) boxes.push(all, none);
    if (this.#hasRoom()) boxes.push(this.#frameButton());
    const legend = this.photo.result ? "Faces to veil, if it is done again" : "Faces to veil";
    const choice = make("fieldset", { className: "faces" }, make("legend", {}, legend, make("span", { className: "unseen" }, ` in ${name}`)), ...boxes);
    if (this.drawn.length) choice.append(make("p", { className: "quiet" }, HOW));
    return choice;
  }

  #frameButton() {
    const button = make("button", { type: "button", className: "add", "aria-label": `Frame a missed face in ${this.photo.name}` }, "Frame a missed face");
    button.onclick = () => this.working || this.#addInTheMiddle();
    return button;
  }

  #idOf(face) {
    return `face-${this.photo.id}-${face}`;
  }
}

/** Who still recognizes a face, in words and as bars against each program's threshold. */
function verdict(face, number, faces) {
  const title = faces > 1 ? `Who still recognizes face ${number + 1}?` : "Who still recognizes the face?";
  const found = face.found || face.by_hand ? "" : " The face is not even found any more.";
  return make(
    "section",
    { className: "verdict" },
    make("h4", {}, title),
    make("p", {}, sum(face.answers) + found),
    make("ul", { className: "bars" }, ...face.answers.map(bar)),
  );
}

function sum(answers) {
  const recognize = (number) => (number === 1 ? "recognizes" : "recognize");
  const still = answers.filter((answer) => answer.matches).length;
  const again = answers.filter((answer) => answer.again).length;
  const altered = "once the photo is compressed, blurred or shrunk, as websites do";
  if (still && again) {
    return `${still} of ${answers.length} programs still ${recognize(still)} it, and ${again} more ${recognize(again)} it ${altered}.`;
  }
  if (still) return `${still} of ${count(answers.length, "program")} still ${recognize(still)} it.`;
  if (again) return `${again} of ${count(answers.length, "program")} ${recognize(again)} it again ${altered}.`;
  return `None of the ${count(answers.length, "program")} asked recognizes it any more.`;
}

function bar({ recognizer, attacked, similarity, highest, threshold, matches, again }) {
  const line = threshold ?? 0.5;
  const answer = matches === null ? "not known" : matches ? "still recognizes" : again ? "again once altered" : "no longer";
  const reach = make("div", { className: "reach" });
  reach.style.setProperty("--share", `${share(highest, line)}%`);
  const fill = make("div", { className: "fill" });
  fill.style.setProperty("--share", `${share(similarity, line)}%`);
  const from = threshold === null ? "a threshold nobody measured" : threshold.toFixed(2);
  const figures = `Alikeness ${similarity.toFixed(2)}, up to ${highest.toFixed(2)} once altered; the same person from ${from} on`;
  return make(
    "li",
    { className: matches === null ? "unknown" : matches || again ? "still" : "", title: figures },
    make("span", {}, recognizer, " ", make("small", {}, attacked ? "aimed at" : "not aimed at")),
    make("span", { className: "answer" }, answer),
    make("div", { className: "track", role: "img", "aria-label": figures }, reach, fill, make("div", { className: "line" })),
  );
}

/** Where a similarity ends on a bar of 100 whose middle is the threshold, so that all programs' lines stand alike. */
function share(similarity, threshold) {
  if (similarity < threshold) return (50 * Math.max(0, similarity)) / threshold;
  return 50 + (50 * (similarity - threshold)) / (1 - threshold);
}
