"use strict";
/* Plots over time (uPlot) and heat maps, made from JSON that the gateway gives: <div data-plots="URL" data-beat="CELL">. A plot can
   be gone through with the arrow keys, is said in words, and stands as a table beside it. Drawn anew when its cell changes, when
   the window does, and when the reader goes from light to dark. */
(() => {
  const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const HEIGHT = 180;
  const time = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
  const clock = (at) => time.format(new Date(at * 1000));
  const number = (value, digits) => value.toLocaleString(undefined, { maximumFractionDigits: digits });
  const FORMATS = {
    per_s: (value) => `${number(value, value < 10 ? 1 : 0)}/s`,
    seconds: (value) => (value < 1 ? `${number(value * 1000, 0)} ms` : `${number(value, 2)} s`),
    share: (value) => `${number(value * 100, value < 0.1 ? 1 : 0)} %`,
    percent: (value) => `${value > 0 ? "+" : ""}${number(value * 100, 1)} %`,
    points: (value) => `${value > 0 ? "+" : ""}${number(value * 100, 2)} points`,
    number: (value) => number(value, 1),
  };
  const said = (plot, value) => (value === null || value === undefined ? "unknown" : (FORMATS[plot.unit] || FORMATS.number)(value));

  function element(kind, className, text) {
    const made = document.createElement(kind);
    if (className) {
      made.className = className;
    }
    if (text) {
      made.textContent = text;
    }
    return made;
  }

  // A figure: its title, what is drawn, and the values at one moment, which the arrow keys and the pointer choose.
  function frame(plot) {
    const figure = element("figure", "plot");
    const drawn = element("div", "drawn");
    drawn.tabIndex = 0;
    drawn.setAttribute("role", "img");
    const values = element("output", "values small");
    figure.append(element("figcaption", "", plot.title), drawn, values);
    return { figure, drawn, values };
  }

  function swatch(color, dashed) {
    const line = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    line.setAttribute("viewBox", "0 0 18 10");
    line.setAttribute("aria-hidden", "true");
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("d", "M0 5h18");
    path.setAttribute("stroke", color);
    path.setAttribute("stroke-width", "3");
    if (dashed) {
      path.setAttribute("stroke-dasharray", "4 3");
    }
    line.append(path);
    return line;
  }

  function lastKnown(series) {
    for (let at = series.values.length - 1; at >= 0; at -= 1) {
      if (series.values[at] !== null) {
        return at;
      }
    }
    return -1;
  }

  const colorOf = (series) => (series.line ? ink("--bad") : ink(`--c${series.place % 8}`));

  // In words: where each line is now, and between what it was.
  function inWords(plot) {
    const lines = plot.series.map((series) => {
      const known = series.values.filter((value) => value !== null);
      if (!known.length) {
        return `${series.label} unknown`;
      }
      const now = said(plot, series.values[lastKnown(series)]);
      return series.line ? `${series.label} ${now}` : `${series.label} ${now}, between ${said(plot, Math.min(...known))} and ${said(plot, Math.max(...known))}`;
    });
    return `${plot.title}: ${lines.join("; ") || "nothing yet"}. The arrow keys go through it.`;
  }

  function lines(plot) {
    const { figure, drawn, values } = frame(plot);
    drawn.setAttribute("aria-label", inWords(plot));
    const last = plot.at.length - 1;
    let shown = last;
    let made = null;
    function tell(at) {
      shown = Math.min(last, Math.max(0, at));
      const parts = plot.series.map((series) => {
        const part = element("span", "value");
        part.append(swatch(colorOf(series), series.dashed), ` ${series.label}: ${said(plot, series.values[shown])}`);
        return part;
      });
      values.replaceChildren(element("span", "value", last < 0 ? "nothing yet" : clock(plot.at[shown])), ...parts);
    }
    function draw() {
      const width = drawn.clientWidth;
      if (!width) {
        return;
      }
      if (made) {
        made.destroy();
      }
      const quiet = ink("--quiet");
      const grid = { stroke: ink("--line"), width: 1 };
      const axis = { stroke: quiet, grid, ticks: grid, font: "12px system-ui, sans-serif" };
      made = new uPlot(
        {
          width,
          height: HEIGHT,
          legend: { show: false },
          cursor: { drag: { x: false, y: false } },
          scales: { x: around(plot), y: { range: (_, low, high) => range(plot, low, high) } },
          axes: [{ ...axis, space: 105 }, { ...axis, size: 88, values: (_, ticks) => ticks.map((tick) => said(plot, tick)) }],
          bands: (plot.bands || []).map(([high, low]) => ({ series: [high + 1, low + 1], fill: `${ink("--c0")}33` })),
          series: [
            {},
            ...plot.series.map((series) => ({
              label: series.label,
              stroke: colorOf(series),
              width: 2,
              dash: series.dashed ? [6, 4] : [],
              points: { show: series.values.filter((value) => value !== null).length < 3 },
            })),
          ],
          hooks: { setCursor: [(u) => u.cursor.idx !== null && u.cursor.idx !== undefined && tell(u.cursor.idx)] },
        },
        [plot.at, ...plot.series.map((series) => series.values)],
        drawn,
      );
    }
    steps(drawn, (by) => {
      tell(by === null ? last : shown + by);
      if (made && last >= 0) {
        made.setCursor({ left: made.valToPos(plot.at[shown], "x"), top: HEIGHT / 3 }, false);
      }
    });
    tell(last);
    return { figure, draw };
  }

  // From when to when: what is said, or what there is; of a single moment a minute.
  function around(plot) {
    if (plot.from) {
      return { range: [plot.from, plot.to] };
    }
    return plot.at.length === 1 ? { range: [plot.at[0] - 30, plot.at[0] + 30] } : {};
  }

  function range(plot, low, high) {
    if (plot.y) {
      return plot.y;
    }
    const top = high === null || high <= 0 ? 1 : high * 1.1;
    return [Math.min(0, low === null ? 0 : low * 1.1), top];
  }

  // The arrow keys: one on, one back, five with shift; End is now.
  function steps(drawn, move, rows) {
    drawn.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      const down = { ArrowUp: -1, ArrowDown: 1 }[event.key];
      if (by) {
        move(event.shiftKey ? by * 5 : by, 0);
      } else if (down && rows) {
        move(0, down);
      } else if (event.key === "End") {
        move(null, 0);
      } else {
        return;
      }
      event.preventDefault();
    });
  }

  // Heat: a line for each endpoint, a column for each moment; the darker (in the dark: the lighter) the more.
  const CELL = 14;
  const LABEL = 150;
  const CLASSES = 6;
  function heat(plot) {
    const { figure, drawn, values } = frame(plot);
    const count = plot.at.length;
    const columns = Math.max(count, plot.columns || 0); // what is not known yet stays empty
    const before = columns - count;
    const canvas = document.createElement("canvas");
    canvas.setAttribute("aria-hidden", "true");
    drawn.append(canvas);
    const most = plot.rows.reduce((all, row) => Math.max(all, ...row.values.map((value) => value || 0)), 0);
    const top = plot.top || most || 1;
    const now = (row) => row.values[count - 1];
    const hottest = plot.rows.reduce((best, row) => ((now(row) || 0) > (best ? now(best) || 0 : 0) ? row : best), null);
    const most_ = hottest ? `most has ${hottest.label} with ${said(plot, now(hottest))} now` : "nobody has any now";
    drawn.setAttribute("aria-label", `${plot.title}: ${plot.rows.length} endpoints; ${most_}. The arrow keys go through it.`);
    let line = 0;
    let column = count - 1;
    let width = 0;
    const label = () => (drawn.clientWidth < 500 ? 90 : LABEL);
    const classOf = (value) => Math.min(CLASSES - 1, Math.floor((value / top) * CLASSES));
    function tell() {
      const row = plot.rows[line];
      const words = row && count ? `${clock(plot.at[column])} ${row.label}: ${said(plot, row.values[column])}` : "nothing yet";
      values.replaceChildren(element("span", "value", words), legend());
    }
    function legend() {
      const parts = element("span", "scale");
      for (let each = 0; each < CLASSES; each += 1) {
        const part = element("span", "value");
        const box = element("span", `heat h${each}`);
        box.setAttribute("aria-hidden", "true");
        part.append(box, ` from ${said(plot, (top * each) / CLASSES)}`);
        parts.append(part);
      }
      parts.append(element("span", "value", "empty: unknown"));
      return parts;
    }
    function draw() {
      width = drawn.clientWidth;
      if (!width) {
        return;
      }
      const ratio = window.devicePixelRatio || 1;
      const height = (plot.rows.length + 1) * CELL;
      canvas.width = width * ratio;
      canvas.height = height * ratio;
      canvas.style.width = `${width}px`;
      canvas.style.height = `${height}px`;
      const pen = canvas.getContext("2d");
      pen.scale(ratio, ratio);
      pen.font = "11px system-ui, sans-serif";
      pen.textBaseline = "middle";
      const colors = Array.from({ length: CLASSES }, (_, each) => ink(`--h${each}`));
      const each = (width - label()) / Math.max(1, columns);
      if (count) {
        pen.fillStyle = ink("--quiet");
        const under = plot.rows.length * CELL + CELL / 2;
        const every = plot.every || 10;
        pen.fillText(clock(plot.at[count - 1] - every * (columns - 1)), label(), under);
        const now = clock(plot.at[count - 1]);
        pen.fillText(now, width - pen.measureText(now).width, under);
      }
      plot.rows.forEach((row, y) => {
        pen.fillStyle = ink("--ink");
        pen.fillText(cut(pen, row.label, label() - 8), 0, y * CELL + CELL / 2);
        row.values.forEach((value, x) => {
          if (value !== null) {
            pen.fillStyle = colors[classOf(value)];
            pen.fillRect(label() + (before + x) * each, y * CELL, Math.ceil(each), CELL - 1);
          }
        });
      });
      if (plot.rows.length && document.activeElement === drawn) {
        pen.strokeStyle = ink("--bad");
        pen.lineWidth = 2;
        pen.strokeRect(label() + (before + column) * each, line * CELL, Math.max(4, each), CELL - 1);
      }
    }
    steps(
      drawn,
      (by, down) => {
        column = by === null ? count - 1 : Math.min(count - 1, Math.max(0, column + by));
        line = Math.min(plot.rows.length - 1, Math.max(0, line + down));
        tell();
        draw();
      },
      true,
    );
    drawn.addEventListener("focus", draw);
    drawn.addEventListener("blur", draw);
    canvas.addEventListener("pointermove", (event) => {
      const at = Math.floor((event.offsetX - label()) / ((width - label()) / Math.max(1, columns))) - before;
      const row = Math.floor(event.offsetY / CELL);
      if (at >= 0 && at < count && row < plot.rows.length) {
        column = at;
        line = row;
        tell();
      }
    });
    tell();
    return { figure, draw };
  }

  // Names of pods and addresses differ at their ends.
  function cut(pen, text, width) {
    if (pen.measureText(text).width <= width) {
      return text;
    }
    let left = text.length;
    while (left > 1 && pen.measureText(`…${text.slice(-left)}`).width > width) {
      left -= 1;
    }
    return `…${text.slice(-left)}`;
  }

  // What is on the page: fetched, drawn, and fetched again when its cell changes.
  const places = new Map();
  function look() {
    for (const place of Array.from(places.keys())) {
      if (!place.isConnected) {
        places.delete(place);
      }
    }
    for (const place of document.querySelectorAll("[data-plots]")) {
      const known = places.get(place);
      if (!known || known.url !== place.dataset.plots) {
        places.set(place, { url: place.dataset.plots, drawn: [] });
        fetched(place);
      }
    }
  }

  async function fetched(place) {
    const known = places.get(place);
    try {
      const answer = await fetch(known.url, { headers: { Accept: "application/json" }, cache: "no-store", redirect: "error" });
      if (!answer.ok || places.get(place) !== known) {
        return; // the page's stream says why; what is drawn stays
      }
      show(place, known, (await answer.json()).plots);
    } catch {
      // away: the next beat looks again
    }
  }

  function show(place, known, plots) {
    const focus = Array.from(place.querySelectorAll(".drawn")).indexOf(document.activeElement);
    known.drawn = plots.map((plot) => (plot.kind === "heat" ? heat(plot) : lines(plot)));
    place.replaceChildren(...known.drawn.map((each) => each.figure));
    known.drawn.forEach((each) => each.draw());
    if (focus >= 0 && known.drawn[focus]) {
      known.drawn[focus].figure.querySelector(".drawn").focus();
    }
    place.dataset.ready = String(Number(place.dataset.ready || 0) + 1);
  }

  function again() {
    for (const { drawn } of places.values()) {
      drawn.forEach((each) => each.draw());
    }
  }

  const beats = new Map();
  document.addEventListener("extproc:cells", (event) => {
    for (const place of places.keys()) {
      const beat = event.detail[place.dataset.beat];
      if (beat !== undefined && beats.get(place.dataset.beat) !== beat) {
        const first = !beats.has(place.dataset.beat);
        beats.set(place.dataset.beat, beat);
        if (!first) {
          fetched(place);
        }
      }
    }
  });
  document.body.addEventListener("htmx:afterSettle", look);
  window.addEventListener("resize", again);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  look();
})();
