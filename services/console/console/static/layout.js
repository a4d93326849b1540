// @ts-check
/**
 * What the timeline shows, from what the tracker has recorded: one row an entry, a row for each long gap, a folded fence.
 * Pure: the same entries give the same rows. The order is the recorded one.
 */

/**
 * @typedef {{seq: number, message_id: string, kind: string, type: string, service: string, step: string | null,
 *   attempt: number | null, causation_id: string | null, occurred_at: string, recorded_at: string,
 *   deadline_at: string | null, late: boolean, detail: string | null, topic: string | null,
 *   partition: number | null, offset: number | null}} Entry
 * @typedef {{saga_id: string, lanes: string[], rejections: string[], tracker: string, entries: Entry[],
 *   is_live: boolean}} Drawing
 * @typedef {"forward" | "undo" | "fence" | "failure" | "late" | "timer" | "act" | "end"} Meaning
 * @typedef {{kind: "entry", key: string, entry: Entry, meaning: Meaning, title: string, note: string,
 *   lane: number, to: number | null, isReply: boolean, isEarlier: boolean, members: Entry[]}} EntryRow
 * @typedef {{kind: "gap", key: string, seconds: number, title: string}} GapRow
 * @typedef {EntryRow | GapRow} Row
 */

export const GAP_S = 1;
export const FENCE = "FenceSaga";
export const FENCED = "SagaFenced";

/** @type {Record<Meaning, string>} */
export const MEANINGS = {
  forward: "forward", undo: "compensation", fence: "fence", failure: "failure", late: "late", timer: "deadline",
  act: "act", end: "end",
};

/** @param {Entry} entry @param {Drawing} drawing @returns {Meaning} */
export function meaningOf(entry, drawing) {
  if (entry.kind === "dead_letter") return "failure";
  if (entry.kind === "timer") return "timer";
  if (entry.kind === "event" || entry.kind === "reply") {
    if (entry.type === FENCED) return "fence";
    if (entry.kind === "reply") return "undo";
    if (entry.service === drawing.tracker) return "end";
    if (drawing.rejections.includes(entry.type)) return "failure";
    return entry.late ? "late" : "forward";
  }
  if (entry.kind === "command") return entry.type === FENCE ? "fence" : "undo";
  return "act";
}

/** @param {string[]} lanes @param {Entry[]} entries @param {string} tracker */
export function lanesOf(lanes, entries, tracker) {
  const known = new Set(lanes);
  const found = entries.map((entry) => entry.service).filter((service) => !known.has(service) && service !== tracker);
  return [...lanes.filter((lane) => lane !== tracker), ...new Set(found), tracker];
}

/** @param {Entry} entry */
export function receiverOf(entry) {
  if (entry.kind !== "command" || !entry.topic) return null;
  return entry.topic.split(".")[0] ?? null;
}

/** @param {number} seconds */
export function duration(seconds) {
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  if (seconds < 3600) return `${(seconds / 60).toFixed(1)} min`;
  return seconds < 86400 ? `${(seconds / 3600).toFixed(1)} h` : `${(seconds / 86400).toFixed(1)} d`;
}

/** @param {Entry} entry */
const timeOf = (entry) => Date.parse(entry.occurred_at);

/**
 * @param {Drawing} drawing
 * @param {{fold: boolean, trouble: boolean}} options
 * @returns {{lanes: string[], rows: Row[]}}
 */
export function layout(drawing, options) {
  const lanes = lanesOf(drawing.lanes, drawing.entries, drawing.tracker);
  const shown = options.fold ? folded(drawing.entries) : drawing.entries.map((entry) => [entry]);
  /** @type {Row[]} */
  const rows = [];
  let latest = Number.NEGATIVE_INFINITY;
  for (const members of shown) {
    const entry = /** @type {Entry} */ (members[0]);
    const meaning = meaningOf(entry, drawing);
    if (options.trouble && (meaning === "forward" || meaning === "end")) continue;
    const at = timeOf(entry);
    const seconds = (at - latest) / 1000;
    if (Number.isFinite(seconds) && seconds >= GAP_S) {
      rows.push({ kind: "gap", key: `gap-${entry.seq}`, seconds, title: `${duration(seconds)} without a message` });
    }
    rows.push(entryRow(members, meaning, lanes, latest - at >= GAP_S * 1000));
    latest = Math.max(latest, at);
  }
  return { lanes, rows };
}

/**
 * @param {Entry[]} members @param {Meaning} meaning @param {string[]} lanes @param {boolean} isEarlier
 * @returns {EntryRow}
 */
function entryRow(members, meaning, lanes, isEarlier) {
  const entry = /** @type {Entry} */ (members[0]);
  const tracker = lanes.length - 1;
  const receiver = receiverOf(entry);
  const isFold = members.length > 1;
  const isReply = entry.kind === "reply" || entry.type === FENCED;
  const found = receiver === null ? -1 : lanes.indexOf(receiver);
  let to = found >= 0 ? found : null;
  if (isReply && !isFold) to = tracker;
  if (isFold) to = Math.min(...members.map((each) => lanes.indexOf(receiverOf(each) ?? each.service)).filter((lane) => lane >= 0));
  return {
    kind: "entry", key: `e${entry.seq}`, entry, meaning, isReply: isReply && !isFold, isEarlier, members,
    title: isFold ? foldTitle(members) : entry.type,
    note: isFold ? foldNote(members) : entry.detail ?? "",
    lane: isFold ? tracker : Math.max(0, lanes.indexOf(entry.service)),
    to,
  };
}

/**
 * Group the messages of a fence: its commands and their replies, up to the last reply. What comes between and belongs to
 * no fence stays a row of its own, behind it.
 * @param {Entry[]} entries @returns {Entry[][]}
 */
export function folded(entries) {
  /** @type {Entry[][]} */
  const rows = [];
  /** @type {Entry[] | null} */
  let fence = null;
  for (const entry of entries) {
    if (entry.type === FENCE && entry.kind === "command" || entry.type === FENCED) {
      if (fence === null) {
        fence = [];
        rows.push(fence);
      }
      fence.push(entry);
    } else {
      rows.push([entry]);
    }
  }
  return rows;
}

/** @param {Entry[]} members */
function foldTitle(members) {
  const services = new Set(members.filter((each) => each.type === FENCE).map((each) => receiverOf(each)));
  const answered = new Set(members.filter((each) => each.type === FENCED).map((each) => each.service));
  return `Fence: ${answered.size} of ${Math.max(services.size, answered.size)} answered`;
}

/** @param {Entry[]} members */
function foldNote(members) {
  const replies = members.filter((each) => each.type === FENCED);
  if (replies.length === 0) return "no answer yet";
  const first = Math.min(...members.map(timeOf));
  const last = Math.max(...replies.map(timeOf));
  return `the last after ${((last - first) / 1000).toFixed(3)} s`;
}

/**
 * The message ids of an entry's chain: what caused it, up to the start, and all that it caused.
 * @param {Entry[]} entries @param {Entry} chosen @returns {Set<string>}
 */
export function chainOf(entries, chosen) {
  const byId = new Map(entries.map((entry) => [entry.message_id, entry]));
  /** @type {Map<string, string[]>} */
  const caused = new Map();
  for (const entry of entries) {
    if (entry.causation_id === null) continue;
    caused.set(entry.causation_id, [...(caused.get(entry.causation_id) ?? []), entry.message_id]);
  }
  const chain = new Set([chosen.message_id]);
  let cause = chosen.causation_id;
  while (cause !== null && byId.has(cause) && !chain.has(cause)) {
    chain.add(cause);
    cause = /** @type {Entry} */ (byId.get(cause)).causation_id;
  }
  const open = [chosen.message_id];
  while (open.length > 0) {
    for (const next of caused.get(/** @type {string} */ (open.pop())) ?? []) {
      if (chain.has(next)) continue;
      chain.add(next);
      open.push(next);
    }
  }
  return chain;
}

/** @param {string} text @param {number} start @param {"start" | "utc" | "local"} zone */
export function timeText(text, start, zone) {
  const at = new Date(text);
  if (zone === "utc") return at.toISOString().slice(11, 23);
  if (zone === "local") {
    return at.toLocaleTimeString([], { hour12: false }) + `.${String(at.getMilliseconds()).padStart(3, "0")}`;
  }
  const seconds = Math.abs(at.getTime() - start) / 1000;
  const sign = at.getTime() < start ? "−" : "+";
  if (seconds < 60) return `${sign}${seconds.toFixed(3)}`;
  const rest = (seconds % 60).toFixed(3).padStart(6, "0");
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${sign}${minutes}:${rest}`;
  return `${sign}${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
}
