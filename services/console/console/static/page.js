// @ts-check
/** What every page has: times in the user's zone, keys, and forms that are sent once. */

function showTimes() {
  if (document.documentElement.dataset.zone !== "local") return;
  for (const element of document.querySelectorAll("time[datetime]")) {
    const at = new Date(/** @type {HTMLTimeElement} */ (element).dateTime);
    if (Number.isNaN(at.getTime())) continue;
    element.setAttribute("title", at.toISOString());
    element.textContent = at.toLocaleString([], { dateStyle: "medium", timeStyle: "medium" });
  }
}

/** @param {EventTarget | null} target */
function isTyping(target) {
  return target instanceof HTMLElement && target.closest("input, textarea, select, [contenteditable]") !== null;
}

/** @param {number} by */
function move(by) {
  const rows = [...document.querySelectorAll("[data-row]")];
  if (rows.length === 0) return;
  const current = rows.findIndex((row) => row.contains(document.activeElement));
  const row = rows[Math.min(rows.length - 1, Math.max(0, current < 0 ? (by > 0 ? 0 : rows.length - 1) : current + by))];
  const target = /** @type {HTMLElement | null} */ (row?.querySelector("button, a, input") ?? null);
  target?.focus();
  row?.scrollIntoView({ block: "nearest" });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (isTyping(event.target)) {
    if (event.key === "Escape" && event.target instanceof HTMLElement) event.target.blur();
    return;
  }
  if (event.key === "/") {
    event.preventDefault();
    document.getElementById("find")?.focus();
  } else if (event.key === "j") move(1);
  else if (event.key === "k") move(-1);
  else if (event.key === "?") location.assign("/help");
  else if (event.key === "c" || event.key === "Escape") document.dispatchEvent(new CustomEvent("console-key", { detail: event.key }));
});

document.addEventListener("submit", (event) => {
  const form = /** @type {HTMLFormElement} */ (event.target);
  if (form.method !== "post") return;
  if (form.dataset.sent === "yes") event.preventDefault();
  form.dataset.sent = "yes";
});
// A page that the browser shows again from its memory can be sent again.
window.addEventListener("pageshow", () => {
  for (const form of document.forms) delete form.dataset.sent;
});

/** Show a page anew after some seconds, unless a person writes on it or does not look at it. */
function reloadLater() {
  const link = /** @type {HTMLAnchorElement | null} */ (document.querySelector("a[data-reload]"));
  if (link === null) return;
  window.setInterval(() => {
    const isWritten = [...document.querySelectorAll("main textarea, main input[name=ticket]")].some(
      (field) => /** @type {HTMLInputElement} */ (field).value !== "",
    );
    if (!document.hidden && !isWritten && !isTyping(document.activeElement)) location.replace(link.href);
  }, Number(link.dataset.reload) * 1000);
}

document.addEventListener("console-times", showTimes);
reloadLater();
showTimes();
