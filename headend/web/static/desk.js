"use strict";
// What HTML cannot do by itself: fold the menu, say "busy" once a form has left, draw curves.
// Every page works without this file; it only makes it quicker to use.
(() => {
  document.addEventListener("click", (event) => {
    const menu = event.target.closest(".menu");
    if (menu) {
      const open = menu.closest(".side").classList.toggle("open");
      menu.setAttribute("aria-expanded", String(open));
    }
    const quick = event.target.closest("[data-fill]");
    if (quick) {
      const field = document.getElementById(quick.dataset.fill);
      field.value = quick.dataset.value;
      field.dispatchEvent(new Event("input", { bubbles: true }));
      field.focus();
    }
    if (event.target.closest("[data-print]")) window.print();
  });

  // A second press of a button does nothing; the form's own id would make it one order anyway.
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if ("again" in form.dataset) return;  // it gives a file, and the page stays
    if (form.dataset.left) { event.preventDefault(); return; }
    form.dataset.left = "1";
    for (const button of form.querySelectorAll("button")) button.setAttribute("aria-busy", "true");
  });
  // Back from the browser's memory: the form may be sent again.
  window.addEventListener("pageshow", () => {
    for (const form of document.querySelectorAll("form[data-left]")) {
      delete form.dataset.left;
      for (const button of form.querySelectorAll("button")) button.removeAttribute("aria-busy");
    }
  });

  // Where the end of a live piece changes the rest of the page too, the page is asked for anew.
  document.addEventListener("end", (event) => {
    if (!event.target.dataset) return;
    event.target.dataset.over = "1";
    if (event.target.dataset.reload === "end") window.location.reload();
  });
  // htmx takes up a connection that broke, not one that was never made, as while the program starts
  // again: then the page is asked for anew as soon as somebody answers, a few times at most.
  const tried = `live ${window.location.pathname}`;
  setInterval(async () => {
    const lost = (piece) => !piece.dataset.over && !(piece._htmx && piece._htmx.sse);
    const pieces = [...document.querySelectorAll("[hx-sse\\:connect]")];
    if (document.hidden || !pieces.length) return;
    if (!pieces.some(lost)) { sessionStorage.removeItem(tried); return; }
    const times = Number(sessionStorage.getItem(tried));
    if (times >= 3) return;
    try { await fetch("/health", { cache: "no-store" }); } catch { return; }
    if (!pieces.some(lost)) return;
    sessionStorage.setItem(tried, String(times + 1));
    window.location.reload();
  }, 5000);

  const two = (number) => String(number).padStart(2, "0");
  function stamp(seconds, span) {
    const at = new Date(seconds * 1000);
    const day = `${two(at.getMonth() + 1)}-${two(at.getDate())}`;
    return span > 2 * 86400 ? day : `${day} ${two(at.getHours())}:${two(at.getMinutes())}`;
  }

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function draw(box) {
    const wanted = JSON.parse(box.dataset.chart);
    const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 } };
    const xs = wanted.data[0];
    const span = xs[xs.length - 1] - xs[0];
    const names = wanted.labels;  // instead of instants: things side by side
    const said = (x) => names ? (names[x] ?? "") : stamp(x, span);
    const days = { ...axis, space: 90, values: (_, splits) => splits.map(said) };
    if (names) { days.incrs = [1, 2, 5, 10, 20, 50, 100]; days.space = 70; }
    const options = {
      width: box.clientWidth, height: 240, legend: { show: true },
      scales: { x: names ? { time: false, range: [-0.6, xs.length - 0.4] } : { time: true } },
      axes: [days, { ...axis, size: 60 }],
      series: [{ label: wanted.x, value: (_, x) => (x === null ? "–" : said(x)) }, ...wanted.series.map((one) => ({
        label: one.label, stroke: colour(one.colour), width: 2,
        fill: one.bars ? colour(one.colour) : undefined,
        paths: one.bars ? uPlot.paths.bars({ size: [0.6, 40] }) : undefined,
        points: { show: wanted.data[0].length < 40 },
      }))],
    };
    const plot = new uPlot(options, wanted.data, box);
    new ResizeObserver(() => plot.setSize({ width: box.clientWidth, height: 240 })).observe(box);
  }
  window.addEventListener("DOMContentLoaded", () => {
    for (const box of document.querySelectorAll("[data-chart]")) draw(box);
  });
})();
