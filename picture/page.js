// SPDX-License-Identifier: Apache-2.0
"use strict";
(function () {
  const data = JSON.parse(document.getElementById("data").textContent);
  const nodes = data.nodes, edges = data.edges, groups = data.groups;
  const $ = function (id) { return document.getElementById(id); };
  const form = $("filter"), panel = $("panel"), main = document.querySelector("main");

  // Sizes, in pixels at full size. A closed namespace is a box like any other.
  const BOX = { w: 172, h: 40 }, PAD = { x: 14, top: 32, bottom: 14 };
  const GAP = { layer: 80, column: 24, row: 12 }, INSIDE = { layer: 44, column: 14, row: 10 };
  const ROOM = { layer: 110, column: 24, row: 16 }; // for labels between layers
  const ALL_OPEN = 60; // with as many nodes, no namespace needs to be closed
  const LABELS = 40; // with as many edges in sight, all of them are labelled
  const MANY = 150; // with more edges in sight, they are drawn faintly
  const LISTED = 100; // of the nodes in the list
  const SMALLEST = 0.9; // zoom below which what is selected is not brought nearer

  const members = groups.map(function () { return []; });
  const out = nodes.map(function () { return []; }), into = nodes.map(function () { return []; });
  nodes.forEach(function (n, i) { if (n.group >= 0) members[n.group].push(i); });
  edges.forEach(function (e, i) { out[e.from].push(i); into[e.to].push(i); });

  // What is to be seen. selected is null or {nodes, edges}: sets of indices;
  // ajar are the namespaces of which only what is selected is seen.
  const open = new Set(), ajar = new Set(), gone = new Set();
  let kinds = new Set(), group = -1, words = [], selected = null;
  let cy, lines = new Map(); // lines: the edges that each drawn one stands for
  let laid = new Map(); // where boxes stood when they were last put in place
  let shownNodes = new Set();
  if (nodes.length <= ALL_OPEN) groups.forEach(function (_, g) { open.add(g); });

  const haystack = nodes.map(function (n) {
    return [n.label, data.kinds[n.kind], n.group >= 0 ? groups[n.group].label : "", n.place || ""]
      .concat((n.fields || []).map(function (f) { return f.join(" "); })).join(" ").toLowerCase();
  });

  // --- what is in sight

  function matches(i) {
    return words.every(function (w) { return haystack[i].includes(w); });
  }

  // visible returns the nodes that the filters leave.
  function visible() {
    const keep = new Set();
    nodes.forEach(function (n, i) {
      if (!kinds.has(n.kind) || !matches(i)) return;
      if (group >= 0 && n.group !== group) return;
      keep.add(i);
    });
    if (group >= 0) neighbours(keep).forEach(function (i) { keep.add(i); });
    keep.forEach(function (i) { if (ajar.has(nodes[i].group) && !selected.nodes.has(i)) keep.delete(i); });
    if (!onlySelected()) return keep;
    return new Set(Array.from(selected.nodes).filter(function (i) { return kinds.has(nodes[i].kind); }));
  }

  // neighbours are what one edge leads from or to a set of nodes.
  function neighbours(set) {
    const found = new Set();
    const look = function (o) { if (!set.has(o) && kinds.has(nodes[o].kind)) found.add(o); };
    set.forEach(function (i) {
      out[i].forEach(function (e) { if (!gone.has(e)) look(edges[e].to); });
      into[i].forEach(function (e) { if (!gone.has(e)) look(edges[e].from); });
    });
    return found;
  }

  function isOpen(g) { return open.has(g) || ajar.has(g); }

  // standsFor is the id of what a node is drawn as.
  function standsFor(i) {
    const g = nodes[i].group;
    return g < 0 || isOpen(g) ? "n" + i : "g" + g;
  }

  // --- where things stand

  // stack puts boxes {layer, place, w, h} into columns, layers from left to
  // right, in as many columns a layer as show it largest in a given shape.
  function stack(boxes, shape, gap) {
    boxes.sort(function (a, b) { return a.layer - b.layer || a.place - b.place; });
    let tallest = 0, all = 0, best = null;
    boxes.forEach(function (b) { tallest = Math.max(tallest, b.h); all += b.h + gap.row; });
    for (let limit = Math.max(1, tallest); ; limit *= 1.2) {
      const c = columnsOf(boxes, limit, gap);
      if (!best || Math.max(c.w, c.h * shape) < Math.max(best.w, best.h * shape)) best = c;
      if (limit > all) break;
    }
    let x = 0;
    best.columns.forEach(function (c) {
      x += c.gap;
      let y = (best.h - c.h) / 2;
      c.boxes.forEach(function (b) {
        b.x = x + c.w / 2;
        b.y = y + b.h / 2;
        y += b.h + gap.row;
      });
      x += c.w;
    });
    return best;
  }

  // columnsOf fills columns that are no higher than a limit.
  function columnsOf(boxes, limit, gap) {
    const columns = [];
    boxes.forEach(function (b) {
      let c = columns[columns.length - 1];
      if (!c || c.layer !== b.layer || c.h + gap.row + b.h > limit) {
        c = { layer: b.layer, gap: !c ? 0 : c.layer === b.layer ? gap.column : gap.layer, h: -gap.row, w: 0, boxes: [] };
        columns.push(c);
      }
      c.boxes.push(b);
      c.h += gap.row + b.h;
      c.w = Math.max(c.w, b.w);
    });
    return {
      columns: columns,
      w: columns.reduce(function (sum, c) { return sum + c.gap + c.w; }, 0),
      h: columns.reduce(function (m, c) { return Math.max(m, c.h); }, 0),
    };
  }

  function onlySelected() { return $("only").checked && selected; }

  // layerOf is how far from the left a node stands; along a selected path where
  // nothing else is around it.
  function layerOf(i) {
    const along = selected && selected.order && (onlySelected() || ajar.has(nodes[i].group));
    return along && selected.order.has(i) ? selected.order.get(i) : nodes[i].cell[0];
  }

  // boxesOf returns the boxes of what is in sight, with their places.
  function boxesOf(keep, roomy) {
    const top = [], inside = new Map();
    keep.forEach(function (i) {
      const n = nodes[i], b = { id: "n" + i, layer: layerOf(i), place: n.cell[1], w: BOX.w, h: BOX.h };
      if (n.group < 0) top.push(b);
      else if (inside.has(n.group)) inside.get(n.group).push(b);
      else inside.set(n.group, [b]);
    });
    inside.forEach(function (list, g) {
      const along = onlySelected() && selected.order, layers = list.map(function (b) { return b.layer; });
      const b = { id: "g" + g, layer: along ? Math.min.apply(null, layers) : groups[g].cell[0], place: groups[g].cell[1], w: BOX.w, h: BOX.h, count: list.length };
      if (isOpen(g)) {
        const size = stack(list, 1.2, roomy || ajar.has(g) ? ROOM : INSIDE);
        b.w = size.w + 2 * PAD.x;
        b.h = size.h + PAD.top + PAD.bottom;
        b.list = list;
      }
      top.push(b);
    });
    const stage = $("graph").getBoundingClientRect();
    stack(top, Math.max(0.5, Math.min(2.2, stage.width / Math.max(1, stage.height))), roomy ? ROOM : GAP);
    const all = [];
    top.forEach(function (b) {
      all.push(b);
      (b.list || []).forEach(function (n) {
        n.x += b.x - b.w / 2 + PAD.x;
        n.y += b.y - b.h / 2 + PAD.top;
        all.push(n);
      });
    });
    return all;
  }

  // --- drawing

  // placed returns boxes with their places: as they were, if a filter may leave
  // gaps and takes away less than half of many.
  function placed(keep, stay) {
    const boxes = boxesOf(keep, lines.size <= LABELS);
    const same = stay && laid.size > MANY && 2 * boxes.length > laid.size &&
      boxes.every(function (b) { return laid.has(b.id) && laid.get(b.id).open === Boolean(b.list); });
    if (same) boxes.forEach(function (b) { Object.assign(b, laid.get(b.id)); });
    else laid = new Map(boxes.map(function (b) { return [b.id, { x: b.x, y: b.y, w: b.w, h: b.h, open: Boolean(b.list) }]; }));
    return { boxes: boxes, same: same };
  }

  function elementsOf(keep, boxes) {
    const at = new Map();
    const list = boxes.map(function (b) {
      at.set(b.id, b.x);
      const i = Number(b.id.slice(1)), look = b.id[0] === "g" ? groupLook(i, b, keep) : nodeLook(i);
      return { group: "nodes", data: { id: b.id, w: b.w, h: b.h, label: look.label }, position: { x: b.x, y: b.y }, classes: look.classes };
    });
    lines.forEach(function (of, id) {
      const ends = id.split(">"), classes = [];
      if (of.every(function (i) { return edges[i].possible; })) classes.push("possible");
      if (Math.abs(at.get(ends[0]) - at.get(ends[1])) < 1) classes.push("bow");
      if (lines.size > MANY) classes.push("faint");
      list.push({
        group: "edges", classes: classes,
        data: { id: id, source: ends[0], target: ends[1], label: lineLabel(of), width: 1 + Math.min(3, Math.log2(of.length)) },
      });
    });
    return list;
  }

  // linesOf returns the lines to draw, by their ids, with the edges of each.
  function linesOf(keep) {
    const found = new Map();
    edges.forEach(function (e, i) {
      if (gone.has(i) || !keep.has(e.from) || !keep.has(e.to)) return;
      const from = standsFor(e.from), to = standsFor(e.to);
      if (from === to) return; // the panel lists it
      const id = from + ">" + to;
      if (found.has(id)) found.get(id).push(i);
      else found.set(id, [i]);
    });
    return found;
  }

  function nodeLook(i) {
    const n = nodes[i], kind = data.kinds[n.kind], classes = ["kind" + n.kind % 8];
    if (n.role) classes.push(n.role);
    return { label: (n.short || n.label) + (kind ? "\n" + kind.slice(0, 28) : ""), classes: classes };
  }

  function groupLook(g, b, keep) {
    const name = groups[g].short || groups[g].label, all = members[g].length;
    const count = b.count === all ? "" : b.count + " of ";
    if (b.list) return { label: "▾ " + name + (count ? " (" + count + all + ")" : ""), classes: ["frame"] };
    const classes = ["closed"];
    members[g].forEach(function (m) { if (keep.has(m) && nodes[m].role) classes.push("has" + nodes[m].role); });
    return { label: "▸ " + name + "\n" + count + all + (all === 1 ? " node" : " nodes"), classes: classes };
  }

  function lineLabel(of) {
    if (of.length > 3) return of.length + " edges";
    const labels = new Set(of.map(function (i) { return edges[i].short || edges[i].label || ""; }));
    labels.delete("");
    return Array.from(labels).join("\n");
  }

  function draw(fit, stay) {
    const keep = visible();
    shownNodes = keep;
    lines = linesOf(keep);
    const at = placed(keep, stay), list = elementsOf(keep, at.boxes);
    cy.batch(function () {
      replace(list);
      highlight();
    });
    if (fit && !at.same) show();
    say(keep);
    listNodes();
  }

  // replace makes the graph hold a list of elements. What is there already is
  // moved, which takes far less time than drawing it anew.
  function replace(list) {
    const ids = new Set(list.map(function (x) { return x.data.id; }));
    cy.elements().filter(function (x) { return !ids.has(x.id()); }).remove();
    cy.add(list.filter(function (x) {
      const old = cy.getElementById(x.data.id);
      if (old.empty()) return true;
      const d = old.data();
      if (d.label !== x.data.label || d.w !== x.data.w || d.h !== x.data.h || d.width !== x.data.width) old.data(x.data);
      if (x.position) {
        const p = old.position();
        if (p.x !== x.position.x || p.y !== x.position.y) old.position(x.position);
      }
      const classes = x.classes.join(" ");
      if (old.scratch("_classes") !== classes) old.classes(x.classes);
      old.scratch("_classes", classes);
      return false;
    })).forEach(function (x) { x.scratch("_classes", x.classes().join(" ")); });
  }

  function say(keep) {
    let text = keep.size === nodes.length ? keep.size + " nodes" : keep.size + " of " + nodes.length + " nodes";
    const closed = new Set();
    keep.forEach(function (i) { const g = nodes[i].group; if (g >= 0 && !isOpen(g)) closed.add(g); });
    if (closed.size) text += ", " + closed.size + (closed.size === 1 ? " namespace" : " namespaces") + " closed";
    if (gone.size) text += ", " + gone.size + (gone.size === 1 ? " edge" : " edges") + " taken away by changes";
    if (!keep.size) text = "No node is left by the filters.";
    $("shown").textContent = text;
  }

  // highlight marks what is selected and dims the rest.
  function highlight() {
    const some = cy.edges().length <= LABELS;
    cy.elements().forEach(function (x) {
      let on = false, dim = false;
      if (selected) {
        const id = x.id();
        if (x.isEdge()) on = lines.get(id).some(function (i) { return selected.edges.has(i); });
        else if (id[0] === "n") on = selected.nodes.has(Number(id.slice(1)));
        else on = members[Number(id.slice(1))].some(function (i) { return selected.nodes.has(i); });
        dim = !on;
      }
      if (x.hasClass("on") !== on) x.toggleClass("on", on);
      if (x.hasClass("dim") !== dim) x.toggleClass("dim", dim);
      if (x.isEdge()) {
        const labelled = some && !dim || on;
        if (x.hasClass("labelled") !== labelled) x.toggleClass("labelled", labelled);
      }
    });
  }

  // show brings what is selected, or everything, into sight.
  function show() {
    const on = selected ? cy.nodes(".on").not(".frame") : cy.nodes();
    if (on.length) cy.fit(on, 40);
    if (cy.zoom() > 1.25) {
      cy.zoom(1.25);
      cy.center(on);
    }
  }

  // --- selecting

  // select marks nodes and edges. Closed namespaces of the nodes in seen open as
  // far as these go, and close again with the next selection.
  function select(s, seen) {
    const before = Array.from(ajar).join();
    selected = s;
    ajar.clear();
    seen.forEach(function (i) {
      const g = nodes[i].group;
      if (g >= 0 && !open.has(g)) ajar.add(g);
    });
    if ($("only").checked || Array.from(ajar).join() !== before) draw(true);
    else {
      cy.batch(highlight);
      if (s) nearer();
    }
    document.querySelectorAll(".now").forEach(function (li) { li.classList.remove("now"); });
  }

  // nearer moves only where what is selected is out of sight or too small.
  function nearer() {
    const on = cy.nodes(".on").not(".frame"), box = on.renderedBoundingBox(), w = cy.width(), h = cy.height();
    if (box.x1 < 0 || box.y1 < 0 || box.x2 > w || box.y2 > h || cy.zoom() < SMALLEST) show();
  }

  function clear() {
    if (!selected && panel.hidden) return;
    closePanel();
    select(null, new Set());
  }

  function selectNode(i) {
    const s = { nodes: new Set([i]), edges: new Set() };
    out[i].concat(into[i]).forEach(function (e) {
      if (gone.has(e)) return;
      s.edges.add(e);
      s.nodes.add(edges[e].from).add(edges[e].to);
    });
    nodePanel(i);
    select(s, new Set([i]));
  }

  function selectPath(p) {
    const s = { nodes: new Set(), edges: new Set(data.paths[p]), order: new Map() };
    data.paths[p].forEach(function (e) { s.nodes.add(edges[e].from).add(edges[e].to); });
    Array.from(s.nodes).forEach(function (i, at) { s.order.set(i, at); });
    closePanel();
    select(s, s.nodes);
    const li = document.querySelector('[data-path="' + p + '"]');
    li.classList.add("now");
  }

  function toggle(g) {
    if (open.has(g)) open.delete(g);
    else open.add(g);
    ajar.delete(g);
    const at = cy.getElementById("g" + g).renderedPosition();
    draw(false);
    const now = cy.getElementById("g" + g).renderedPosition();
    if (at && now) cy.panBy({ x: at.x - now.x, y: at.y - now.y });
    groupPanel(g);
  }

  // --- the panel

  function make(tag, text, cls) {
    const x = document.createElement(tag);
    if (text !== undefined) x.textContent = text;
    if (cls) x.className = cls;
    return x;
  }

  function button(text, act, cls) {
    const b = make("button", text, cls);
    b.type = "button";
    b.addEventListener("click", act);
    return b;
  }

  function openPanel(title, kind) {
    panel.replaceChildren();
    const h = make("h2", title);
    h.dir = "auto";
    panel.append(h);
    if (kind) panel.append(make("p", kind, "dim"));
    if (panel.hidden) {
      panel.hidden = false;
      main.classList.add("selected");
      cy.resize();
    }
  }

  function closePanel() {
    if (panel.hidden) return;
    panel.hidden = true;
    main.classList.remove("selected");
    cy.resize();
  }

  function facts(x) {
    if (x.place) panel.append(make("p", x.place, "place"));
    (x.fields || []).forEach(function (f) {
      const p = make("p");
      p.append(make("span", f[0], "label"), " ", make("span", f[1]));
      p.lastChild.dir = "auto";
      panel.append(p);
    });
    (x.notes || []).forEach(function (n) {
      const p = make("p", n, "note");
      p.dir = "auto";
      panel.append(p);
    });
  }

  function nodePanel(i) {
    const n = nodes[i];
    openPanel(n.label, data.kinds[n.kind] + (n.group >= 0 ? " in " + groups[n.group].label : ""));
    facts(n);
    edgeList("Leads to", out[i], function (e) { return e.to; });
    edgeList("Comes from", into[i], function (e) { return e.from; });
    if (n.group >= 0) panel.append(button((open.has(n.group) ? "Close " : "Open ") + (groups[n.group].short || groups[n.group].label), function () { toggle(n.group); }));
  }

  function edgeList(title, list, end) {
    list = list.filter(function (e) { return !gone.has(e); });
    if (!list.length) return;
    panel.append(make("h3", title + " (" + list.length + ")"));
    const ul = make("ul");
    const add = function (from, to) { list.slice(from, to).forEach(function (e) { ul.append(edgeItem(edges[e], nodeButton(end(edges[e])))); }); };
    add(0, LISTED);
    panel.append(ul);
    if (list.length > LISTED) {
      const more = button("and " + (list.length - LISTED) + " more", function () { add(LISTED); more.remove(); });
      panel.append(more);
    }
  }

  function edgeItem(e, what) {
    const li = make("li");
    if (what) li.append(what, " ");
    if (e.label) li.append(make("span", e.label));
    if (e.possible) li.append(" ", make("span", "possible", "tag unknown"));
    if (e.place) li.append(" ", make("span", e.place, "place"));
    (e.fields || []).forEach(function (f) { li.append(make("p", f[0] + ": " + f[1], "note")); });
    (e.notes || []).forEach(function (n) { li.append(make("p", n, "note")); });
    return li;
  }

  function nodeButton(i) {
    const n = nodes[i];
    const b = button((n.group >= 0 ? groups[n.group].label + "/" : "") + n.label, function () { selectNode(i); }, "link");
    b.dir = "auto";
    return b;
  }

  function groupPanel(g) {
    openPanel(groups[g].label, members[g].length + (members[g].length === 1 ? " node" : " nodes"));
    facts(groups[g]);
    panel.append(button(open.has(g) ? "Close this namespace" : "Open this namespace", function () { toggle(g); }));
    panel.append(make("h3", "Nodes"));
    const ul = make("ul");
    members[g].slice(0, LISTED).forEach(function (i) {
      const li = make("li");
      li.append(nodeButton(i), " ", make("span", data.kinds[nodes[i].kind], "dim"));
      ul.append(li);
    });
    if (members[g].length > LISTED) ul.append(make("li", "and " + (members[g].length - LISTED) + " more; search for them", "dim"));
    panel.append(ul);
  }

  function linePanel(id) {
    const of = lines.get(id);
    openPanel(of.length === 1 ? edges[of[0]].label || "Edge" : of.length + " edges");
    const s = { nodes: new Set(), edges: new Set(of) };
    const ul = make("ul");
    of.forEach(function (i, n) {
      s.nodes.add(edges[i].from).add(edges[i].to);
      if (n >= LISTED) return;
      const li = edgeItem(edges[i]), head = make("p");
      head.append(nodeButton(edges[i].from), " → ", nodeButton(edges[i].to));
      li.prepend(head);
      ul.append(li);
    });
    if (of.length > LISTED) ul.append(make("li", "and " + (of.length - LISTED) + " more", "dim"));
    panel.append(ul);
    select(s, new Set());
  }

  // --- lists

  function listNodes() {
    const list = $("nodes"), found = [];
    nodes.forEach(function (_, i) { if (shownNodes.has(i)) found.push(i); });
    $("nodecount").textContent = found.length;
    list.replaceChildren();
    found.slice(0, LISTED).forEach(function (i) {
      const li = make("li");
      li.append(nodeButton(i), " ", make("span", data.kinds[nodes[i].kind], "dim"));
      list.append(li);
    });
    if (found.length > LISTED) list.append(make("li", "and " + (found.length - LISTED) + " more; search for them", "dim"));
  }

  // --- changes

  // reaches says whether anything leads from one node to another without the
  // edges that are gone. Answers are kept by the node that one starts at.
  function reachability() {
    const from = new Map();
    return function (a, b) {
      if (!from.has(a)) {
        const seen = new Set([a]), queue = [a];
        while (queue.length) {
          out[queue.pop()].forEach(function (e) {
            const to = edges[e].to;
            if (!gone.has(e) && !seen.has(to)) { seen.add(to); queue.push(to); }
          });
        }
        from.set(a, seen);
      }
      return from.get(a).has(b);
    };
  }

  function change() {
    gone.clear();
    let made = 0;
    document.querySelectorAll("#changes input:checked").forEach(function (box) {
      made++;
      data.changes[Number(box.value)].forEach(function (e) { gone.add(e); });
    });
    const reaches = reachability();
    let closed = 0, other = 0;
    data.paths.forEach(function (steps, p) {
      const li = document.querySelector('[data-path="' + p + '"]'), state = li.querySelector(".state");
      const broken = steps.some(function (e) { return gone.has(e); });
      const shut = broken && !reaches(edges[steps[0]].from, edges[steps[steps.length - 1]].to);
      li.classList.toggle("gone", broken);
      state.className = "state" + (shut ? " tag closed" : broken ? " tag" : "");
      state.textContent = shut ? "closed" : broken ? "another way remains" : "";
      if (shut) closed++;
      else if (broken) other++;
    });
    const effect = $("effect");
    if (effect) {
      effect.textContent = made === 0 ? "" : made + (made === 1 ? " change: " : " changes: ") + closed + " of " + data.paths.length +
        " paths closed" + (other ? ", " + other + " replaced by another way in this graph" : "") + ".";
    }
    selected = null;
    ajar.clear();
    closePanel();
    draw(false);
  }

  // --- starting

  function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
  }

  function styles() {
    const font = "system-ui, sans-serif", text = colour("text");
    const list = [
      { selector: "node", style: { shape: "round-rectangle", width: "data(w)", height: "data(h)", label: "data(label)", "text-wrap": "wrap", "text-max-width": 400, "text-valign": "center", "text-halign": "center", "font-size": 13, "line-height": 1.15, "font-family": font, color: text, "border-width": 1, "border-color": colour("grey"), "min-zoomed-font-size": 5, "z-index-compare": "manual", "z-index": 10, "overlay-opacity": 0 } },
      { selector: ".frame", style: { "background-color": colour("panel"), "border-color": colour("line"), "text-valign": "top", "text-margin-y": 22, color: colour("dim"), "font-size": 14, "font-weight": 600, "z-index": 0, "corner-radius": 6 } },
      { selector: ".closed", style: { "background-color": colour("closed"), "border-style": "double", "border-width": 4 } },
      { selector: "edge", style: { width: "data(width)", "curve-style": "straight", "line-color": colour("edge"), "target-arrow-shape": "triangle", "target-arrow-color": colour("edge"), "arrow-scale": 0.8, "font-family": font, "font-size": 12, color: colour("dim"), "text-background-color": colour("bg"), "text-background-opacity": 0.85, "text-background-padding": 2, "text-wrap": "wrap", "min-zoomed-font-size": 6, "z-index-compare": "manual", "z-index": 5, "overlay-opacity": 0 } },
      { selector: "edge.bow", style: { "curve-style": "unbundled-bezier", "control-point-distances": 70, "control-point-weights": 0.5 } },
      { selector: "edge.faint", style: { opacity: 0.35 } },
      { selector: "edge.possible", style: { "line-style": "dashed" } },
      { selector: "edge.labelled", style: { label: "data(label)" } },
    ];
    for (let k = 0; k < 8; k++) list.push({ selector: ".kind" + k, style: { "background-color": colour("kind" + k) } });
    return list.concat([
      { selector: ".entry", style: { "background-color": colour("entry"), "border-color": colour("entryline"), "border-width": 2.5 } },
      { selector: ".hasentry", style: { "border-color": colour("entryline") } },
      { selector: ".jewel", style: { "background-color": colour("jewel"), "border-color": colour("critical"), "border-width": 2.5 } },
      { selector: ".hasjewel", style: { "border-color": colour("critical") } },
      { selector: ".dim", style: { opacity: 0.14 } },
      { selector: "edge.dim", style: { opacity: 0.07 } },
      { selector: ".frame.dim", style: { opacity: 0.4 } },
      { selector: "edge.hover", style: { "line-color": colour("link"), "target-arrow-color": colour("link"), opacity: 1, "z-index": 15 } },
      { selector: "edge.on", style: { opacity: 1, "line-color": colour("critical"), "target-arrow-color": colour("critical"), color: text, "z-index": 20, width: 2.5 } },
      { selector: "node.on", style: { "border-color": colour("critical"), "border-width": 2.5, "z-index": 30 } },
      { selector: ".frame.on", style: { "border-color": colour("grey"), "border-width": 1, "z-index": 0 } },
    ]);
  }

  function read() {
    const f = new FormData(form);
    kinds = new Set(f.getAll("kind").map(Number));
    group = f.get("group") ? Number(f.get("group")) : -1;
    words = f.get("text").toLowerCase().split(/\s+/).filter(Boolean);
    if (group >= 0) open.add(group);
  }

  // filter applies the form.
  function filter() {
    selected = null;
    ajar.clear();
    read();
    draw(true, true);
  }

  function keys(e) {
    const step = 60;
    switch (e.key) {
      case "ArrowLeft": cy.panBy({ x: step, y: 0 }); break;
      case "ArrowRight": cy.panBy({ x: -step, y: 0 }); break;
      case "ArrowUp": cy.panBy({ x: 0, y: step }); break;
      case "ArrowDown": cy.panBy({ x: 0, y: -step }); break;
      case "+": case "=": zoom(1.25); break;
      case "-": zoom(0.8); break;
      case "0": cy.fit(cy.nodes(), 40); break;
      default: return;
    }
    e.preventDefault();
  }

  function zoom(by) {
    cy.zoom({ level: cy.zoom() * by, renderedPosition: { x: cy.width() / 2, y: cy.height() / 2 } });
  }

  function openAll(yes) {
    open.clear();
    ajar.clear();
    if (yes) groups.forEach(function (_, g) { open.add(g); });
    draw(true);
  }

  function start() {
    document.querySelectorAll(".js, #tools, #filter").forEach(function (x) { x.hidden = false; });
    cy = cytoscape({ container: $("graph"), style: styles(), layout: { name: "preset" }, autoungrabify: true, autounselectify: true, boxSelectionEnabled: false, minZoom: 0.02, maxZoom: 4 });
    read();
    draw(true);
    listen();
  }

  function listen() {
    cy.on("tap", "node", function (e) {
      const id = e.target.id(), i = Number(id.slice(1));
      if (id[0] === "n") selectNode(i);
      else if (e.target.hasClass("closed")) toggle(i);
      else groupPanel(i);
    });
    cy.on("mouseover mouseout", "node", function (e) { e.target.connectedEdges().toggleClass("hover", e.type === "mouseover"); });
    cy.on("tap", "edge", function (e) { linePanel(e.target.id()); });
    cy.on("tap", function (e) { if (e.target === cy) clear(); });
    $("graph").addEventListener("keydown", keys);
    document.addEventListener("keydown", function (e) { if (e.key === "Escape") clear(); });
    $("fit").addEventListener("click", function () { cy.fit(cy.nodes(), 40); });
    $("zoomin").addEventListener("click", function () { zoom(1.25); });
    $("zoomout").addEventListener("click", function () { zoom(0.8); });
    $("clear").addEventListener("click", clear);
    if ($("openall")) {
      $("openall").addEventListener("click", function () { openAll(true); });
      $("closeall").addEventListener("click", function () { openAll(false); });
    }
    let waiting = 0;
    form.addEventListener("submit", function (e) { e.preventDefault(); });
    form.addEventListener("input", function (e) {
      clearTimeout(waiting);
      waiting = setTimeout(filter, e.target.name === "text" ? 120 : 0);
    });
    $("only").addEventListener("change", function () { draw(true); });
    document.querySelectorAll("#paths > li").forEach(function (li) {
      li.querySelector("summary").addEventListener("click", function () { selectPath(Number(li.dataset.path)); });
    });
    document.querySelectorAll("#changes input").forEach(function (box) { box.addEventListener("change", change); });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", function () { cy.style().fromJson(styles()).update(); });
    new ResizeObserver(function () { cy.resize(); }).observe($("graph"));
  }

  start();
})();
