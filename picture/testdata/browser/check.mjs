// SPDX-License-Identifier: Apache-2.0

// Opens the pages of a folder in Chromium and uses them: node check.mjs DIR.
// SCONCE_CHROMIUM names the browser, SCONCE_SHOTS a folder for screenshots.
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const dir = process.argv[2], shots = process.env.SCONCE_SHOTS;
const browsers = [process.env.SCONCE_CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
const executablePath = browsers.find((b) => b && fs.existsSync(b));
assert(executablePath, "no Chromium is installed; name one with SCONCE_CHROMIUM");
const SLOW = 2000; // milliseconds of CPU for one act, with room for machines that are slow

const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });

// on opens a page, hands it over, and holds it to asking for nothing and saying
// nothing.
async function on(name, options, use) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  const page = await context.newPage();
  const said = [], asked = [];
  page.on("console", (m) => said.push(m.text()));
  page.on("pageerror", (e) => said.push(e.message));
  page.on("request", (r) => asked.push(r.url()));
  const url = pathToFileURL(path.join(dir, name + ".html")).href;
  await page.goto(url);
  const expected = JSON.parse(fs.readFileSync(path.join(dir, name + ".json"), "utf8"));
  const start = performance.now();
  await use(page, expected);
  console.log(`${name}: checked in ${Math.round(performance.now() - start)} ms`);
  if (shots) await page.screenshot({ path: path.join(shots, [name, options?.viewport?.width ?? 1280, options?.colorScheme ?? "light"].join("-") + ".png") });
  assert.deepEqual(said, [], name + " says something on the console");
  assert.deepEqual(asked, [url], name + " asks for more than itself");
  await context.close();
}

// drawn counts what the graph holds.
const drawn = (page, selector) => page.evaluate((s) => document.getElementById("graph")._cyreg.cy.elements(s).length, selector);
const shown = (page) => page.textContent("#shown");
const settled = (page) => page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));

// cpu is how much time the browser's processes have used, in milliseconds. The
// clock on the wall says little where other programs run.
const system = await browser.newBrowserCDPSession();
async function cpu() {
  const { processInfo } = await system.send("SystemInfo.getProcessInfo");
  return 1000 * processInfo.reduce((sum, p) => sum + p.cpuTime, 0);
}

// took measures from an act until what it changes is painted.
async function took(page, what, act) {
  await page.waitForTimeout(300);
  const before = await cpu(), start = performance.now();
  await page.evaluate(act);
  await settled(page);
  const ms = await cpu() - before;
  console.log(`${what}: ${Math.round(ms)} ms of CPU, ${Math.round(performance.now() - start)} ms`);
  assert(ms < SLOW, `${what} takes ${Math.round(ms)} ms of CPU`);
}

await on("small", {}, async (page) => {
  assert.equal(await shown(page), "4 nodes");
  assert.equal(await drawn(page, "edge"), 4);
  assert.equal(await drawn(page, ".frame"), 1);
  assert.equal(await drawn(page, "edge.possible"), 1);
  // A node's panel says what is known of it.
  await page.click("#nodes button:text('shop/web')");
  const panel = await page.innerText("#panel");
  for (const s of ["web", "Deployment in shop", "shop/web.yaml:12", "app=web", "Leads to (1)", "runs as", "Comes from (1)", "internet"]) assert(panel.includes(s), `the panel lacks ${s}: ${panel}`);
  assert.equal(await drawn(page, "node.on"), 4); // itself, its two neighbours, and the namespace around
  await page.keyboard.press("Escape");
  assert.equal(await page.isVisible("#panel"), false);
  assert.equal(await drawn(page, ".dim"), 0);
  // A path is highlighted and the rest dimmed.
  await page.click("#paths summary");
  assert.equal(await drawn(page, "edge.on"), 3);
  assert.equal(await drawn(page, "edge.dim"), 1);
  assert((await page.innerText("#paths")).includes("which runs as shop/ci"));
  await page.check("#only");
  assert.equal(await shown(page), "4 nodes");
  await page.uncheck("#only");
  // A change takes its edge away, and says what follows.
  await page.check("#changes input");
  assert.equal(await page.innerText("#paths .state"), "closed");
  assert.equal(await page.innerText("#effect"), "1 change: 1 of 1 paths closed.");
  assert.equal(await drawn(page, "edge"), 3);
  await page.uncheck("#changes input");
  assert.equal(await page.innerText("#effect"), "");
  assert.equal(await drawn(page, "edge"), 4);
});

// Everything can be reached by keyboard.
await on("small", { colorScheme: "dark" }, async (page) => {
  const visited = new Set();
  for (let i = 0; i < 60; i++) {
    await page.keyboard.press("Tab");
    visited.add(await page.evaluate(() => { const x = document.activeElement; return x.id || x.name || x.tagName + (x.closest("[id]")?.id ?? ""); }));
  }
  for (const want of ["fit", "graph", "only", "text", "kind", "SUMMARYpaths", "BUTTONnodes"]) assert(visited.has(want), `Tab does not reach ${want}: ${[...visited]}`);
  await page.focus("#graph");
  const pan = () => page.evaluate(() => JSON.stringify([document.getElementById("graph")._cyreg.cy.pan(), document.getElementById("graph")._cyreg.cy.zoom()]));
  for (const key of ["ArrowLeft", "+"]) {
    const before = await pan();
    await page.keyboard.press(key);
    assert.notEqual(await pan(), before, key + " does nothing");
  }
  await page.focus("#nodes button");
  await page.keyboard.press("Enter");
  assert.equal(await page.isVisible("#panel"), true);
  // Dark and light, also when they change.
  const ink = () => page.evaluate(() => document.getElementById("graph")._cyreg.cy.nodes()[0].style("color"));
  const dark = await ink();
  await page.emulateMedia({ colorScheme: "light" });
  await settled(page);
  assert.notEqual(await ink(), dark);
  await page.emulateMedia({ media: "print" });
  assert.equal(await page.isVisible("#tools"), false);
  assert.equal(await page.isVisible("#paths"), true);
});

await on("hostile", {}, async (page, expected) => {
  assert(!(await page.title()).includes("owned") || (await page.title()).startsWith("Sconce: </script>"), await page.title());
  assert.equal(await page.evaluate(() => document.querySelectorAll("script").length), 3);
  assert.equal(await page.evaluate(() => document.querySelectorAll("img, b, iframe").length), 0);
  assert.equal(await shown(page), expected.Nodes + " nodes");
  for (let i = 0; i < expected.Nodes; i++) await page.click(`#nodes li:nth-child(${i + 1}) button`);
  assert(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "a long name makes the page wider than the window");
});

await on("attack-1000", {}, async (page, expected) => {
  const closed = await drawn(page, ".closed");
  assert(closed > 20, "namespaces are not closed");
  assert.equal(await shown(page), `${expected.Nodes} nodes, ${closed} namespaces closed`);
  // A closed namespace opens when it is clicked.
  const at = await page.evaluate(() => document.getElementById("graph")._cyreg.cy.nodes(".closed")[0].renderedPosition());
  const box = await page.locator("#graph").boundingBox();
  await page.mouse.click(box.x + at.x, box.y + at.y);
  await page.waitForFunction(() => document.getElementById("graph")._cyreg.cy.nodes(".frame").length === 1);
  await page.click("#panel button:text('Close this namespace')");
  assert.equal(await drawn(page, ".frame"), 0);
  // Every path can be highlighted, whatever is open.
  const paths = await page.locator("#paths > li").count();
  for (let i = 0; i < paths; i += 20) {
    await page.click(`#paths > li:nth-child(${i + 1}) summary`);
    const steps = await page.locator(`#paths > li:nth-child(${i + 1}) .steps > li`).count();
    assert.equal(await drawn(page, "edge.on"), steps);
    assert.equal(await drawn(page, "node.on[id ^= 'n']"), steps + 1);
  }
  await page.keyboard.press("Escape");
  // Filters.
  await page.selectOption("select[name=group]", { label: "shop-1" });
  await page.waitForFunction(() => document.getElementById("shown").textContent.includes(" of "));
  const frame = await page.evaluate(() => document.getElementById("graph")._cyreg.cy.nodes(".frame").map((n) => n.data("label")));
  assert.deepEqual(frame, ["▾ shop-1"]);
  await page.selectOption("select[name=group]", "");
  await page.fill("input[name=text]", "shop-1 api deployment");
  await page.waitForFunction(() => Number(document.getElementById("nodecount").textContent) < 10);
  assert((await page.textContent("#nodes")).includes("shop-1/api"), await page.textContent("#nodes"));
  await page.fill("input[name=text]", "nothing is called that");
  await page.waitForFunction(() => document.getElementById("shown").textContent === "No node is left by the filters.");
  await page.fill("input[name=text]", "");
  await page.waitForFunction(() => !document.getElementById("shown").textContent.includes("No node"));
  // Changes, held against what Go says is left.
  for (let i = 0; i < expected.States.length; i++) {
    await page.evaluate((n) => document.querySelectorAll("#changes input")[n].click(), i);
    if (i % 30 && i < expected.States.length - 1) continue;
    const states = await page.locator("#paths .state").allTextContents();
    assert.deepEqual(states, expected.States[i], `after ${i + 1} changes`);
  }
});

// How fast it is with everything open.
for (const name of ["attack-1000", "reach-1000"]) {
  await on(name, {}, async (page, expected) => {
    console.log(`${name}: ${expected.Nodes} nodes, ${expected.Edges} edges, ${fs.statSync(path.join(dir, name + ".html")).size} bytes`);
    await took(page, name + ", namespaces closed, select a node", () => document.querySelector("#nodes li:nth-child(30) button").click());
    await page.keyboard.press("Escape");
    await took(page, name + ", open all", () => document.getElementById("openall").click());
    assert.equal(await drawn(page, ".closed"), 0);
    await took(page, name + ", all open, select a node", () => document.querySelector("#nodes li:nth-child(40) button").click());
    if (expected.States.length) await took(page, name + ", all open, highlight a path", () => document.querySelector("#paths > li:nth-child(9) summary").click());
    await page.keyboard.press("Escape");
    await took(page, name + ", all open, filter a kind", async () => {
      const shown = document.getElementById("shown"), before = shown.textContent;
      document.querySelector("input[name=kind]:checked").click();
      while (shown.textContent === before) await new Promise((done) => setTimeout(done, 10));
    });
  });
}

await on("attack-200", { viewport: { width: 400, height: 800 }, isMobile: true, hasTouch: true, deviceScaleFactor: 2 }, async (page) => {
  assert(await page.evaluate(() => document.documentElement.scrollWidth <= 400), "the page is wider than a narrow window");
  await page.tap("#paths > li:nth-child(2) summary");
  assert(await drawn(page, "edge.on") > 0);
  assert.equal(await page.locator("#graph").evaluate((x) => { const b = x.getBoundingClientRect(); return b.top >= 0 && b.bottom <= innerHeight; }), true, "the graph is out of sight");
});

await on("attack-200", { colorScheme: "dark" }, async (page) => { await page.click("#paths > li:nth-child(2) summary"); });

// Without JavaScript the text is there.
await on("small", { javaScriptEnabled: false }, async (page) => {
  const text = await page.innerText("body");
  for (const s of ["internet to cluster-admin", "Remove the binding ci-admin", "Secrets could not be listed", "needs JavaScript"]) assert(text.includes(s), `without JavaScript the page lacks ${s}`);
});

await browser.close();
