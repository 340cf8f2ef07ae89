// SPDX-License-Identifier: Apache-2.0
"use strict";
(function () {
  const form = document.getElementById("filter");
  if (form) filter(form);
  addEventListener("hashchange", open);
  open();

  // open unfolds the control that a link leads to.
  function open() {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target && target.tagName === "DETAILS") target.open = true;
  }

  function filter(form) {
    const all = Array.from(document.querySelectorAll(".finding"), function (node) {
      return { node: node, object: node.parentNode, file: node.parentNode.parentNode, text: null };
    });
    const shown = document.getElementById("shown");
    let waiting = 0;
    form.hidden = false;
    form.addEventListener("submit", function (e) { e.preventDefault(); });
    form.addEventListener("input", function () {
      clearTimeout(waiting);
      waiting = setTimeout(apply, 120);
    });
    apply();

    function apply() {
      const data = new FormData(form);
      const severities = new Set(data.getAll("severity"));
      const outcomes = new Set(data.getAll("outcome"));
      const topic = data.get("topic");
      const words = data.get("text").toLowerCase().split(/\s+/).filter(Boolean);
      const parents = new Set();
      const kept = new Set();
      let count = 0;
      for (const f of all) {
        const d = f.node.dataset;
        const keep = severities.has(d.severity) && outcomes.has(d.outcome) &&
          (!topic || d.topic === topic) && matches(f, words);
        f.node.hidden = !keep;
        parents.add(f.object).add(f.file);
        if (keep) {
          kept.add(f.object).add(f.file);
          count++;
        }
      }
      for (const p of parents) p.hidden = !kept.has(p);
      shown.textContent = count === all.length ? count + " shown" : count + " of " + all.length + " shown";
    }

    // matches reads the text of a finding when it is first needed.
    function matches(f, words) {
      if (!words.length) return true;
      if (f.text === null) {
        f.text = (f.file.querySelector("h3").textContent + " " + f.object.querySelector("h4").textContent + " " + f.node.textContent).toLowerCase();
      }
      return words.every(function (w) { return f.text.includes(w); });
    }
  }
})();
