"use strict";
// The trace pager. All text that comes from the data goes through textContent: it is hostile.
(() => {
  const traces = JSON.parse(document.getElementById("trace-data").textContent);
  if (!traces.length) return;
  const at = (id) => document.getElementById(id);
  const verdicts = { correct: ["✓", "right"], incorrect: ["✗", "wrong"], undecided: ["?", "undecided"] };
  const unseen = /[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]/gu;
  // Characters without a look, or that reorder others, are written out: what is shown is what is there.
  const visible = (text) =>
    text.replace(unseen, (c) => "<U+" + c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0") + ">");
  const word = (verdict) => (verdicts[verdict] || ["", verdict || "no verdict"])[1];

  function make(tag, className, text) {
    const node = document.createElement(tag);
    if (className) node.className = className;
    if (text !== undefined && text !== null) node.textContent = visible(String(text));
    return node;
  }

  let shown = traces;
  let index = 0;

  function options(select, values, name) {
    const counts = new Map();
    for (const value of values) counts.set(value, (counts.get(value) || 0) + 1);
    select.append(new Option(`all (${values.length})`, ""));
    for (const [value, count] of counts) select.append(new Option(`${visible(name(value))} (${count})`, String(value)));
    return counts.size;
  }

  function filter() {
    const verdict = at("verdict").value, policy = at("policy").value;
    const pit = at("pit").checked, spurious = at("spurious").checked;
    const current = shown[index];
    shown = traces.filter((t) =>
      (!verdict || String(t.verdict) === verdict) && (!policy || t.policy === policy) &&
      (!pit || t.pit) && (!spurious || t.spurious));
    index = Math.max(0, shown.indexOf(current));
    show();
  }

  function go(to) {
    index = Math.min(Math.max(0, to), Math.max(0, shown.length - 1));
    show();
  }

  function track(value, low, high) {
    if (value === null) return make("span");
    const node = make("span", "track");
    if (low !== null && high !== null) {
      const range = make("i");
      range.style.left = 100 * low + "%";
      range.style.width = 100 * Math.max(0, high - low) + "%";
      node.append(range);
    }
    const dot = make("b");
    dot.style.left = 100 * value + "%";
    node.append(dot);
    return node;
  }

  function gain(step) {
    return (step.a > 0 ? "▲ " : step.a < 0 ? "▼ " : "") + step.gain.replace("-", "−");
  }

  function stepRow(step, i, labelled) {
    const row = make("li", "step");
    row.tabIndex = 0;
    row.append(make("span", "number", i + 1));
    row.append(make("span", "model", step.text.replace(/\n+$/, "") || " "));
    const marks = make("span", "marks");
    if (step.label === "pit" || step.label === "spurious") {
      row.classList.add(step.label);
      marks.append(make("b", "badge " + step.label, step.label === "pit" ? "▼ pit" : "! spurious"));
    }
    row.append(marks);
    if (labelled) row.append(track(step.v, step.low, step.high), make("span", "gain", gain(step)));
    if (step.a !== null) {
      const strength = 0.55 * Math.min(1, Math.abs(step.a));
      row.style.backgroundColor = `rgba(var(--${step.a > 0 ? "blue" : "orange"}), ${strength.toFixed(3)})`;
    }
    const tip = make("span", "tip", step.hover);
    tip.setAttribute("role", "tooltip");
    row.append(tip);
    return row;
  }

  function head(labelled) {
    const row = make("li", "step head");
    row.setAttribute("aria-hidden", "true");
    row.append(make("span"), make("span", "", "step"), make("span"));
    if (labelled) {
      const scale = make("span", "track");
      scale.append(make("span", "", "0"), make("span", "", "chance of right"), make("span", "", "1"));
      row.append(scale, make("span", "gain", "advantage"));
    }
    return row;
  }

  function about(list, name, node) {
    list.append(make("dt", "", name), make("dd"));
    list.lastChild.append(node);
  }

  function show() {
    const box = at("trace");
    box.replaceChildren();
    at("total").textContent = shown.length ? `of ${shown.length}` : "of 0";
    at("position").value = shown.length ? index + 1 : 0;
    at("position").max = shown.length;
    at("previous").disabled = index <= 0;
    at("next").disabled = index >= shown.length - 1;
    const trace = shown[index];
    if (!trace) {
      box.append(make("p", "note", "No trace matches these filters."));
      return;
    }
    const list = make("dl", "about");
    about(list, "problem", make("span", "model", trace.prompt));
    about(list, "right answer", make("span", "model", trace.gold));
    const given = make("span");
    given.append(make("span", "model", trace.answer === null ? "none found" : trace.answer), " ");
    const reason = trace.reason ? ": " + trace.reason.replaceAll("_", " ") : "";
    const mark = (verdicts[trace.verdict] || [""])[0];
    const kind = verdicts[trace.verdict] ? trace.verdict : "undecided";
    given.append(make("b", "badge " + kind, `${mark} ${word(trace.verdict)}${reason}`.trim()));
    about(list, "model's answer", given);
    about(list, "written by", make("span", "id", [trace.policy, trace.problem, trace.id].filter(Boolean).join(" · ")));
    box.append(list);

    const labelled = trace.steps.some((s) => s.v !== null);
    const steps = make("ol", labelled ? "steps" : "steps plain");
    if (trace.steps.length) steps.append(head(labelled));
    if (labelled && trace.v0 !== null) {
      const origin = make("li", "step origin");
      origin.append(make("span"), make("span", "", "before the first step"), make("span"), track(trace.v0, null, null));
      steps.append(origin);
    }
    trace.steps.forEach((step, i) => steps.append(stepRow(step, i, labelled)));
    box.append(steps);
    if (!trace.steps.length) box.append(make("p", "model", trace.text || "(no steps)"));
    // Never shrink: the page would jump under a reader who turns to a shorter trace.
    box.style.minHeight = box.offsetHeight + "px";
  }

  options(at("verdict"), traces.map((t) => t.verdict), word);
  at("policy-label").hidden = options(at("policy"), traces.map((t) => t.policy), String) < 2;
  for (const key of ["pit", "spurious"]) {
    const count = traces.filter((t) => t[key]).length;
    at(key).disabled = !count;
    at(key).parentElement.querySelector(".count").textContent = `(${count})`;
  }
  for (const id of ["verdict", "policy", "pit", "spurious"]) at(id).addEventListener("change", filter);
  at("controls").addEventListener("submit", (event) => event.preventDefault());
  at("position").addEventListener("change", (event) => go((Number.parseInt(event.target.value, 10) || 1) - 1));
  at("previous").addEventListener("click", () => go(index - 1));
  at("next").addEventListener("click", () => go(index + 1));
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.target.matches("input, select, textarea")) return;
    if (event.key === "ArrowLeft") go(index - 1);
    else if (event.key === "ArrowRight") go(index + 1);
    else return;
    event.preventDefault();
  });
  show();
})();
