// @ts-check
/**
 * The timeline of a saga: a real table with a picture in each row, live by server-sent events.
 * Rows have a fixed height; x is in percent and y in pixels, so nothing is measured and a line to a cause is drawn
 * upwards out of its row. No style attribute: the page's policy forbids them.
 */
import { MEANINGS, chainOf, layout, timeText } from "./layout.js";

/** @typedef {import("./layout.js").Drawing} Drawing */
/** @typedef {import("./layout.js").Entry} Entry */
/** @typedef {import("./layout.js").EntryRow} EntryRow */
/** @typedef {import("./layout.js").Row} Row */

const SVG = "http://www.w3.org/2000/svg";
const ROW = 30;
const MID = ROW / 2;
const ANNOUNCE_MS = 3000;
const DRAW_MS = 100;
const HEAD_MS = 400;
const POLL_MS = 5000;
const STREAMS_MAX = 4;
const ENDED = ["CONFIRMED", "CANCELLED_COMPENSATED"];

/**
 * Take one of the streams that all tabs of this browser have together, or none: over HTTP/1.1 a browser has six
 * connections to a server, and with six streams open no page would load any more.
 * @returns {Promise<(() => void) | null>} what gives it back
 */
async function takeStream() {
  if (!navigator.locks) return () => {};
  for (let number = 0; number < STREAMS_MAX; number += 1) {
    /** @type {(() => void) | null} */
    const release = await new Promise((resolve) => {
      void navigator.locks.request(`console-stream-${number}`, { ifAvailable: true }, (lock) => {
        if (lock === null) return resolve(null);
        return new Promise((done) => resolve(() => done(undefined)));
      });
    });
    if (release !== null) return release;
  }
  return null;
}

/**
 * @param {string} tag @param {Record<string, string | number | boolean | null>} [attributes]
 * @param {...(Node | string)} children
 */
function html(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children);
  return element;
}

/** @param {string} tag @param {Record<string, string | number>} [attributes] @param {...(Node | string)} children */
function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

class SagaTimeline extends HTMLElement {
  /** @type {Drawing} */
  #drawing = { saga_id: "", lanes: [], rejections: [], tracker: "saga-tracker", entries: [], is_live: false };
  #options = { fold: true, trouble: false, zone: /** @type {"start" | "utc" | "local"} */ ("start") };
  /** @type {Entry | null} */
  #chosen = null;
  /** @type {EventSource | null} */
  #source = null;
  #known = new Set();
  /** @type {string[]} */
  #unannounced = [];
  #drawTimer = 0;
  #headTimer = 0;
  #announceTimer = 0;
  #table = html("table", { class: "timeline" });
  #record = html("aside", { class: "record", "aria-label": "The chosen entry" });
  #live = html("p", { class: "hidden", "aria-live": "polite" });
  #connection = html("p", { class: "connection", role: "status" });
  /** @type {(() => void) | null} */
  #release = null;
  #isOpening = false;
  #pollTimer = 0;
  #onVisibility = () => (document.hidden ? this.#close() : this.#open());

  connectedCallback() {
    const source = this.querySelector('script[type="application/json"]');
    if (source === null || source.textContent === null) return;
    this.#drawing = JSON.parse(source.textContent);
    for (const entry of this.#drawing.entries) this.#known.add(entry.seq);
    this.replaceChildren(
      this.#controls(), html("div", { class: "timeline-area" }, html("div", { class: "timeline-scroll" }, this.#table), this.#record),
      this.#connection, this.#live,
    );
    const linked = this.#drawing.entries.find((entry) => `#e${entry.seq}` === location.hash);
    if (linked !== undefined) this.#chosen = linked;
    this.#draw();
    if (linked !== undefined) this.#rowOf(linked)?.scrollIntoView({ block: "center" });
    this.addEventListener("keydown", (event) => this.#onKey(event));
    document.addEventListener("console-key", (event) => this.#onPageKey(/** @type {CustomEvent} */ (event).detail));
    document.addEventListener("visibilitychange", this.#onVisibility);
    this.#open();
  }

  disconnectedCallback() {
    document.removeEventListener("visibilitychange", this.#onVisibility);
    this.#close();
  }

  // Live entries.

  /** One stream a tab, none for a saga that has ended, none while the tab is hidden, and four in all tabs. */
  async #open() {
    const address = this.dataset.stream;
    if (!address || !this.#drawing.is_live || this.#source !== null || this.#isOpening || document.hidden) return;
    this.#isOpening = true;
    const release = await takeStream();
    this.#isOpening = false;
    if (release === null) {
      this.#connection.textContent = `Read anew every ${POLL_MS / 1000} s: ${STREAMS_MAX} other tabs are live.`;
      this.#pollTimer = window.setTimeout(() => void this.#poll(), POLL_MS);
      return;
    }
    if (!this.isConnected || document.hidden) return release();
    this.#release = release;
    const source = new EventSource(`${address}?after=${this.#last()}`);
    source.addEventListener("entry", (event) => this.#add(JSON.parse(event.data)));
    source.addEventListener("freshness", () => this.#readHeadSoon());
    source.addEventListener("saga", () => this.#readHeadSoon());
    source.addEventListener("end", () => {
      this.#drawing.is_live = false;
      this.#connection.textContent = "";
      this.#close();
      this.#readHeadSoon();
    });
    source.addEventListener("open", () => (this.#connection.textContent = "Live: new entries appear by themselves."));
    source.addEventListener("error", () => {
      this.#connection.textContent = source.readyState === EventSource.CLOSED
        ? "Not live any more: reload the page to see what came since."
        : "The connection broke; it is made again, and nothing is lost.";
    });
    this.#source = source;
  }

  #close() {
    window.clearTimeout(this.#pollTimer);
    this.#source?.close();
    this.#source = null;
    this.#release?.();
    this.#release = null;
  }

  #last() {
    return Math.max(0, ...this.#drawing.entries.map((entry) => entry.seq));
  }

  /** Read what is new without a stream, then try for one again. */
  async #poll() {
    const response = await fetch(`${this.dataset.entries}?after=${this.#last()}`, { headers: { accept: "application/json" } });
    if (response.ok) {
      const found = await response.json();
      for (const entry of found.entries) this.#add(entry);
      if (ENDED.includes(found.saga.state)) this.#drawing.is_live = false;
      this.#readHeadSoon();
    }
    void this.#open();
  }

  /** @param {Entry} entry */
  #add(entry) {
    if (this.#known.has(entry.seq)) return;
    this.#known.add(entry.seq);
    this.#drawing.entries.push(entry);
    this.#unannounced.push(`${entry.type} at ${entry.service}`);
    if (this.#drawTimer === 0) this.#drawTimer = window.setTimeout(() => { this.#drawTimer = 0; this.#draw(); }, DRAW_MS);
    if (this.#announceTimer === 0) {
      this.#announceTimer = window.setTimeout(() => {
        this.#announceTimer = 0;
        this.#live.textContent = `New: ${this.#unannounced.splice(0).join(", ")}`;
      }, ANNOUNCE_MS);
    }
    this.#readHeadSoon();
  }

  #readHeadSoon() {
    if (this.#headTimer === 0) this.#headTimer = window.setTimeout(() => this.#readHead(), HEAD_MS);
  }

  async #readHead() {
    this.#headTimer = 0;
    const address = this.dataset.head;
    const before = document.getElementById("head");
    if (!address || before === null || before.contains(document.activeElement)) return;
    const response = await fetch(address, { headers: { accept: "text/html" } });
    if (!response.ok) return;
    const parsed = new DOMParser().parseFromString(await response.text(), "text/html");
    const after = parsed.getElementById("head");
    if (after === null) return;
    before.replaceWith(document.importNode(after, true));
    document.dispatchEvent(new CustomEvent("console-times"));
  }

  // The picture.

  #controls() {
    const zones = /** @type {const} */ ([["start", "from the start"], ["utc", "UTC"], ["local", "local"]]);
    const times = zones.map(([zone, words]) => {
      const input = html("input", { type: "radio", name: "timeline-zone", value: zone, checked: zone === this.#options.zone });
      input.addEventListener("change", () => { this.#options.zone = zone; this.#draw(); });
      return html("label", {}, input, words);
    });
    const marks = /** @type {const} */ ([["fold", "fold fences"], ["trouble", "only trouble"]]).map(([name, words]) => {
      const input = /** @type {HTMLInputElement} */ (html("input", { type: "checkbox", checked: this.#options[name] }));
      input.addEventListener("change", () => { this.#options[name] = input.checked; this.#draw(); });
      return html("label", {}, input, words);
    });
    const legend = Object.entries(MEANINGS).filter(([meaning]) => meaning !== "end").map(([meaning, words]) =>
      html("span", { class: `legend ${meaning}` }, svg("svg", { width: 14, height: 14, "aria-hidden": "true" }, mark(meaning, 7, 7)), words));
    return html("div", { class: "controls" },
      html("fieldset", {}, html("legend", { class: "hidden" }, "Times"), ...times),
      html("fieldset", {}, html("legend", { class: "hidden" }, "What is shown"), ...marks),
      html("div", { class: "legends", "aria-hidden": "true" }, ...legend));
  }

  #draw() {
    const { lanes, rows } = layout(this.#drawing, this.#options);
    const first = this.#drawing.entries[0];
    const start = first === undefined ? 0 : Date.parse(first.occurred_at);
    const chain = this.#chosen === null ? null : chainOf(this.#drawing.entries, this.#chosen);
    /** @type {Map<string, {index: number, lane: number}>} */
    const ends = new Map();
    rows.forEach((row, index) => {
      if (row.kind !== "entry") return;
      for (const member of row.members) ends.set(member.message_id, { index, lane: row.to ?? row.lane });
    });
    const focused = /** @type {HTMLElement | null} */ (this.contains(document.activeElement) ? document.activeElement : null)?.dataset.key;
    const body = html("tbody");
    rows.forEach((row, index) => body.append(row.kind === "gap" ? gapRow(row.title, lanes) : this.#entryRow(row, index, lanes, ends, start, chain)));
    this.#table.replaceChildren(headOf(lanes), body);
    if (rows.length === 0) {
      body.append(html("tr", {}, html("td", { colspan: 3, class: "nothing" }, "No entry is trouble: take the filter away to see all.")));
    }
    if (focused !== undefined) /** @type {HTMLElement | null} */ (this.#table.querySelector(`[data-key="${focused}"]`))?.focus();
    this.#drawRecord();
  }

  /**
   * @param {EntryRow} row @param {number} index @param {string[]} lanes
   * @param {Map<string, {index: number, lane: number}>} ends @param {number} start @param {Set<string> | null} chain
   */
  #entryRow(row, index, lanes, ends, start, chain) {
    const { entry } = row;
    const isChosen = this.#chosen !== null && row.members.includes(this.#chosen);
    const inChain = chain === null || row.members.some((member) => chain.has(member.message_id));
    const cause = entry.causation_id === null ? undefined : ends.get(entry.causation_id);
    const button = html("button", { type: "button", class: "at", "data-key": row.key, "aria-pressed": isChosen }, timeText(entry.occurred_at, start, this.#options.zone));
    const picture = svg("svg", { class: "lanes", width: "100%", height: ROW, "aria-hidden": "true" }, ...pictureOf(row, index, lanes, cause));
    const receiver = row.to === null || row.members.length > 1 ? "" : ` to ${lanes[row.to]}`;
    const marks = [
      ...(entry.late ? [html("mark", { class: "late" }, "late")] : []),
      ...(entry.attempt !== null && entry.attempt > 1 ? [html("mark", {}, `attempt ${entry.attempt}`)] : []),
      ...(row.isEarlier ? [html("mark", {}, "happened earlier")] : []),
    ];
    const title = html("span", { class: "entry-title" }, row.title);
    const words = html("span", { class: "hidden" }, `, ${MEANINGS[row.meaning]}, ${entry.kind.replace("_", " ")} of `);
    const place = html("span", { class: "place" }, `${entry.service}${receiver}`);
    const line = html("tr", { id: row.key, class: `${row.meaning}${isChosen ? " chosen" : ""}${inChain ? "" : " dim"}`, "data-row": true },
      html("td", { class: "time" }, button),
      html("td", { class: "wide-cell" }, picture, html("span", { class: "words" }, title, words, place)),
      html("td", { class: "note" }, ...(entry.step === null || row.members.length > 1 ? [] : [html("span", { class: "step" }, entry.step.replaceAll("_", " "))]), ...marks,
        html("span", { class: "detail", title: row.note }, row.note)));
    line.addEventListener("click", () => this.#choose(entry));
    return line;
  }

  // Choosing.

  /** @param {Entry | null} entry */
  #choose(entry) {
    this.#chosen = entry === this.#chosen ? null : entry;
    history.replaceState(null, "", this.#chosen === null ? location.pathname + location.search : `#e${this.#chosen.seq}`);
    this.#draw();
  }

  /** @param {Entry} entry */
  #rowOf(entry) {
    return this.#table.querySelector(`#e${entry.seq}`);
  }

  /** @param {KeyboardEvent} event */
  #onKey(event) {
    if (event.key === "Escape" && this.#chosen !== null) this.#choose(this.#chosen);
  }

  /** @param {string} key */
  #onPageKey(key) {
    if (key === "Escape" && this.#chosen !== null) this.#choose(this.#chosen);
    if (key !== "c" || this.#chosen === null) return;
    const id = this.#chosen.causation_id;
    const cause = this.#drawing.entries.find((entry) => entry.message_id === id);
    if (cause === undefined) return;
    this.#choose(cause);
    this.#rowOf(cause)?.scrollIntoView({ block: "nearest" });
    /** @type {HTMLElement | null} */ (this.#rowOf(cause)?.querySelector("button") ?? null)?.focus();
  }

  #drawRecord() {
    const entry = this.#chosen;
    if (entry === null) {
      this.#record.replaceChildren(html("p", {}, "Choose an entry to see where it lies on Kafka and what caused it."));
      return;
    }
    /** @type {[string, string | number | null][]} */
    const facts = [
      ["seq", entry.seq], ["message id", entry.message_id], ["kind", entry.kind.replace("_", " ")], ["service", entry.service],
      ["step", entry.step], ["attempt", entry.attempt], ["causation id", entry.causation_id],
      ["occurred at", entry.occurred_at], ["recorded at", entry.recorded_at], ["deadline", entry.deadline_at],
      ["late", entry.late ? "yes" : null], ["detail", entry.detail], ["topic", entry.topic],
      ["partition", entry.partition], ["offset", entry.offset],
    ];
    const list = html("dl");
    for (const [name, value] of facts) {
      if (value !== null && value !== "") list.append(html("dt", {}, name), html("dd", {}, String(value)));
    }
    const close = html("button", { type: "button" }, "Close");
    close.addEventListener("click", () => this.#choose(entry));
    this.#record.replaceChildren(html("h3", {}, entry.type), list, close);
  }
}

/** @param {string[]} lanes */
function headOf(lanes) {
  const names = lanes.map((lane, index) => svg("text", { x: percent(index, lanes.length), y: 19, "text-anchor": "middle" }, lane));
  return html("thead", {}, html("tr", {},
    html("th", { scope: "col", class: "time" }, "Time"),
    html("th", { scope: "col", class: "wide-cell" }, html("span", { class: "hidden" }, "Message and service"), svg("svg", { class: "lanes", width: "100%", height: ROW, "aria-hidden": "true" }, ...names)),
    html("th", { scope: "col", class: "note" }, "Step and note")));
}

/** @param {string} title @param {string[]} lanes */
function gapRow(title, lanes) {
  return html("tr", { class: "gap" }, html("td", { class: "time" }), html("td", { class: "wide-cell", colspan: 2 }, html("span", {}, title)), ...(lanes.length === 0 ? [html("td")] : []));
}

/** @param {number} lane @param {number} count */
function percent(lane, count) {
  return `${(((lane + 0.5) / count) * 100).toFixed(3)}%`;
}

/**
 * @param {EntryRow} row @param {number} index @param {string[]} lanes
 * @param {{index: number, lane: number} | undefined} cause
 */
function pictureOf(row, index, lanes, cause) {
  const count = lanes.length;
  const x = percent(row.lane, count);
  const parts = lanes.map((_, lane) => svg("line", { class: "lane", x1: percent(lane, count), x2: percent(lane, count), y1: 0, y2: ROW }));
  const isMessageToOne = row.to !== null && row.to !== row.lane;
  if (cause !== undefined && cause.index < index && !isMessageToOne && row.meaning !== "act" && row.meaning !== "timer") {
    parts.push(svg("line", { class: "cause", x1: percent(cause.lane, count), x2: x, y1: MID - (index - cause.index) * ROW, y2: MID }));
  }
  if (isMessageToOne) {
    const to = percent(/** @type {number} */ (row.to), count);
    const toRight = /** @type {number} */ (row.to) > row.lane;
    const head = svg("path", { class: "head", d: toRight ? "M0 0l-8-4v8z" : "M0 0l8-4v8z" });
    parts.push(svg("line", { class: row.isReply ? "arrow reply" : "arrow", x1: x, x2: to, y1: MID, y2: MID }), svg("svg", { x: to, y: MID, class: "at-point" }, head));
  }
  const onRight = row.lane >= count - 2 && !row.isReply || row.lane === count - 1;
  const label = svg("text", { class: "label", x: onRight ? -13 : 13, y: 4, "text-anchor": onRight ? "end" : "start" }, row.title);
  parts.push(svg("svg", { x, y: MID, class: "at-point" }, mark(row.isReply ? "ring" : row.members.length > 1 ? "bar" : row.meaning, 0, 0, row.entry.kind), ...(row.entry.late ? [svg("circle", { class: "halo", r: 10 })] : []), label));
  return parts;
}

/** @param {string} meaning @param {number} x @param {number} y @param {string} [kind] */
function mark(meaning, x, y, kind = "") {
  const place = { transform: `translate(${x} ${y})` };
  if (meaning === "ring") return svg("circle", { ...place, class: "mark ring", r: 5 });
  if (meaning === "bar" || meaning === "fence" && kind !== "command") return svg("rect", { ...place, class: "mark", x: -7, y: -4.5, width: 14, height: 9, rx: 4.5 });
  if (meaning === "failure") return svg("path", { ...place, class: "mark cross", d: "M-5-5L5 5M5-5L-5 5" });
  if (meaning === "timer") return svg("path", { ...place, class: "mark ring", d: "M0-6L6 0L0 6L-6 0z" });
  if (meaning === "act") return svg("rect", { ...place, class: "mark", x: -5, y: -5, width: 10, height: 10, rx: 1.5 });
  if (meaning === "undo" || meaning === "fence") return svg("path", { ...place, class: "mark", d: "M-6 0L5-6V6z" });
  return svg("circle", { ...place, class: "mark", r: meaning === "end" ? 7 : 5.5 });
}

customElements.define("saga-timeline", SagaTimeline);
