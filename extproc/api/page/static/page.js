"use strict";
/* What pages do beyond HTML and htmx: times in the reader's own zone, cells that change by themselves, sliders that add up to
   100, a question to an endpoint, and telling when the gateway is away. Pages are whole without it. */
(() => {
  const all = (selector, root = document) => Array.from(root.querySelectorAll(selector));

  // Times: the page has them in UTC.
  const format = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
  function localise(root) {
    for (const time of all("time[datetime]", root)) {
      const at = new Date(time.dateTime);
      if (!Number.isNaN(at.getTime())) {
        time.textContent = format.format(at);
        time.title = time.dateTime;
      }
    }
  }

  // Away: the gateway, or what stands before it, does not answer.
  function away(is) {
    const notice = document.getElementById("away");
    if (notice && notice.hidden === is) {
      notice.hidden = !is;
    }
  }

  // Live: one stream of events for what the page shows. A browser comes again by itself after a stream's end, but not after
  // an answer that is none, such as a proxy's 503.
  const AGAIN_MS = 2000;
  let source = null;
  let again = 0;
  let failed = 0;
  function listen() {
    const shows = document.querySelector("[data-live]");
    const url = shows ? shows.dataset.live : "";
    if (source && source.wanted === url && source.readyState !== EventSource.CLOSED) {
      return;
    }
    clearTimeout(again);
    if (source) {
      source.close();
      source = null;
    }
    if (!url || url.endsWith("=")) {
      return;
    }
    const mine = new EventSource(url);
    mine.wanted = url;
    source = mine;
    mine.onopen = () => {
      failed = 0;
      away(false);
    };
    mine.onmessage = (event) => {
      show(JSON.parse(event.data));
    };
    mine.onerror = () => {
      // A stream ends every now and then, and the next one begins at once; so once is nothing.
      failed += 1;
      if (failed > 1) {
        away(true);
      }
      if (mine.readyState === EventSource.CLOSED) {
        away(true);
        look(mine);
        again = setTimeout(listen, AGAIN_MS);
      }
    };
  }

  // Why there is no stream: the login may be over.
  function look(mine) {
    fetch(mine.wanted, { headers: { Accept: "application/json" }, redirect: "manual", cache: "no-store" })
      .then((answer) => {
        if (answer.body) {
          answer.body.cancel();
        }
        if (answer.status === 401) {
          location.reload();
        }
      })
      .catch(() => {});
  }

  function show(cells) {
    let newer = false;
    document.dispatchEvent(new CustomEvent("extproc:cells", { detail: cells }));
    for (const [key, text] of Object.entries(cells)) {
      if (key.endsWith("//version")) {
        newer = isNewer(key.slice(0, -"//version".length), text) || newer;
      }
      for (const cell of all(`[data-cell="${CSS.escape(key)}"]`)) {
        if (cell.textContent !== text) {
          cell.textContent = text;
        }
        if (cell.parentElement && cell.parentElement.dataset.state !== undefined) {
          cell.parentElement.dataset.state = text;
        }
      }
    }
    if (newer) {
      const notice = document.getElementById("newer");
      const list = document.querySelector("[data-reload]");
      if (notice) {
        notice.hidden = false;
      } else if (list) {
        htmx.ajax("GET", location.pathname + location.search, { target: "#list", select: "#list", swap: "outerHTML" });
      }
    }
  }

  function isNewer(name, version) {
    const place = document.querySelector(`[data-endpoint="${CSS.escape(name)}"]`);
    return place !== null && place.dataset.version !== version;
  }

  // Sliders: who moves one has the others give or take in proportion, so that all are 100.
  function editor(form) {
    const rows = all(".share", form).map((row) => ({
      range: row.querySelector("input[type=range]"),
      number: row.querySelector("input[type=number]"),
    }));
    const sum = form.querySelector("#sum");
    const value = (row) => Math.min(100, Math.max(0, Math.round(Number(row.number.value)) || 0));
    function set(row, share) {
      row.number.value = String(share);
      row.range.value = String(share);
    }
    function total() {
      sum.textContent = String(rows.reduce((all, row) => all + value(row), 0));
    }
    function balance(moved) {
      const others = rows.filter((row) => row !== moved);
      const left = 100 - value(moved);
      const shares = spread(others.map(value), left);
      others.forEach((row, at) => set(row, shares[at]));
    }
    for (const row of rows) {
      row.range.hidden = false;
      row.range.addEventListener("input", () => {
        set(row, Number(row.range.value));
        balance(row);
        changed();
      });
      row.number.addEventListener("change", () => {
        set(row, value(row));
        balance(row);
        changed();
      });
    }
    function changed() {
      total();
      const panel = document.getElementById("panel");
      if (panel) {
        panel.replaceChildren();
      }
    }
  }

  // So many in all, in proportion to these; the largest remainders get what rounding leaves.
  function spread(weights, total) {
    const whole = weights.reduce((all, weight) => all + weight, 0);
    const exact = weights.map((weight) => (whole ? (weight * total) / whole : total / weights.length));
    const shares = exact.map(Math.floor);
    let left = total - shares.reduce((all, share) => all + share, 0);
    const order = exact.map((part, at) => [part - shares[at], at]).sort((a, b) => b[0] - a[0] || a[1] - b[1]);
    for (const [, at] of order) {
      if (left <= 0) {
        break;
      }
      shares[at] += 1;
      left -= 1;
    }
    return shares;
  }

  // Ask: the question goes through Envoy, as a client's would; so this page has to be open at Envoy's address.
  function asking(form) {
    const part = (name) => document.getElementById(`ask-${name}`);
    const answer = document.getElementById("answer");
    const decided = document.getElementById("decided");
    form.hidden = false;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      ask().catch((error) => say([["Not answered", String(error.message || error)]], ""));
    });
    function body() {
      const text = part("text").value.trim();
      if (text.startsWith("{")) {
        return JSON.parse(text);
      }
      return { messages: [{ role: "user", content: text }], max_tokens: 64, stream: part("stream").checked };
    }
    async function ask() {
      decided.replaceChildren();
      const entity = part("entity").value;
      const below = entity ? `/served-models/${encodeURIComponent(entity)}` : "";
      const headers = { "content-type": "application/json" };
      if (part("user").value) {
        headers["x-user-id"] = part("user").value;
      }
      if (part("token").value) {
        headers.authorization = `Bearer ${part("token").value}`;
      }
      const sent = JSON.stringify(body());
      say([["Asking", "…"]], "");
      const begin = performance.now();
      const got = await fetch(`/serving-endpoints/${form.dataset.name}${below}/invocations`, { method: "POST", headers, body: sent, credentials: "omit" });
      const times = [["Headers after", performance.now() - begin]];
      const reader = got.body.getReader();
      const decoder = new TextDecoder();
      let text = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (times.length < 2 && (done || value.length)) {
          times.push(["First piece after", performance.now() - begin]);
        }
        if (done) {
          break;
        }
        text = (text + decoder.decode(value, { stream: true })).slice(0, 65536);
      }
      times.push(["Whole after", performance.now() - begin]);
      if (got.status === 404 && text.includes("ENDPOINT_NOT_FOUND")) {
        say([["Not here", "This is the API's own address. Open the page at Envoy's address to ask."]], "");
        return;
      }
      form.querySelector("details").open ||= got.status === 401;
      const rows = [["Status", String(got.status)]];
      rows.push(["Served entity", got.headers.get("served-model-name") || "–"]);
      say(rows.concat(times.map(([what, ms]) => [what, `${Math.round(ms)} ms`])), said(text));
      const id = got.headers.get("x-request-id");
      if (id) {
        htmx.ajax("GET", `/ui/decisions?part=1&request_id=${encodeURIComponent(id)}`, { target: "#decided" });
      }
    }
    function say(rows, text) {
      const list = document.createElement("dl");
      for (const [what, value] of rows) {
        list.append(element("dt", what), element("dd", value));
      }
      answer.replaceChildren(list);
      if (text) {
        const shown = element("pre", text);
        shown.tabIndex = 0;
        shown.setAttribute("role", "region");
        shown.setAttribute("aria-label", "The answer");
        answer.append(shown);
      }
    }
    function element(kind, text) {
      const made = document.createElement(kind);
      made.textContent = text;
      return made;
    }
  }

  // The words of an answer, where it has some; else what came.
  function said(text) {
    const words = (answer) => {
      const choice = (answer.choices || [])[0] || {};
      return (choice.delta || choice.message || {}).content || choice.text || "";
    };
    try {
      const whole = text.startsWith("data:")
        ? text.split("\n").filter((line) => line.startsWith("data: {")).map((line) => words(JSON.parse(line.slice(6)))).join("")
        : words(JSON.parse(text));
      return whole || text;
    } catch {
      return text;
    }
  }

  document.body.addEventListener("htmx:afterSwap", (event) => {
    const target = event.detail.target;
    localise(document);
    listen();
    if (target && target.id === "panel") {
      const heading = target.querySelector("[tabindex='-1']");
      if (heading) {
        heading.focus();
        heading.scrollIntoView({ block: "nearest" });
      }
    }
  });
  document.body.addEventListener("htmx:sendError", () => away(true));
  document.body.addEventListener("htmx:beforeSwap", (event) => {
    // What stands before the gateway answers in its own words: they are no part of the page.
    const type = event.detail.xhr.getResponseHeader("content-type") || "";
    if (!type.startsWith("text/html")) {
      event.detail.shouldSwap = false;
      away(true);
    }
  });
  window.addEventListener("pageshow", (event) => {
    if (event.persisted) {
      location.reload(); // what it shows is old
    }
  });

  // Times that are typed without a zone are the reader's: so many minutes ahead of UTC.
  for (const field of all("input[data-zone]")) {
    field.value = String(-new Date().getTimezoneOffset());
  }

  localise(document);
  all("#editor").forEach(editor);
  all("#ask").forEach(asking);
  listen();
})();
