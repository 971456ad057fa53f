"use strict";
(() => {
  const all = (query, within = document) => Array.from(within.querySelectorAll(query));
  const make = (tag, text, parent) => {
    const node = document.createElement(tag);
    if (text !== undefined) node.textContent = text;
    if (parent) parent.append(node);
    return node;
  };

  // Tables: a click sorts up, the next one down, the third gives the order of the page back.
  const NONE = "–";
  const NUMBER = /^[-+−]?(\d[\d,]*)?(\.\d+)?(e[-+]?\d+)?$/i;
  const number = (text) => {
    if (/^[-−]?(inf|∞)$/.test(text)) return /^[-−]/.test(text) ? -Infinity : Infinity;
    return NUMBER.test(text) && /\d/.test(text) ? Number(text.replace(/,/g, "").replace("−", "-")) : NaN;
  };
  const words = new Intl.Collator("en", { numeric: true });
  const order = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
  for (const table of all("table.sortable")) {
    const body = table.tBodies[0];
    const rows = Array.from(body.rows);
    const heads = all("thead th", table);
    heads.forEach((head, column) => {
      const button = document.createElement("span"); // on paper a real button is not repeated
      button.tabIndex = 0;
      button.setAttribute("role", "button");
      button.append(...head.childNodes);
      head.append(button);
      head.setAttribute("aria-sort", "none");
      button.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        button.click();
      });
      button.addEventListener("click", () => {
        const now = head.getAttribute("aria-sort");
        const next = { none: "ascending", ascending: "descending", descending: "none" }[now];
        heads.forEach((one) => one.setAttribute("aria-sort", "none"));
        head.setAttribute("aria-sort", next);
        const texts = new Map(rows.map((row) => [row, row.cells[column].textContent.trim()]));
        const known = rows.filter((row) => texts.get(row) !== NONE && texts.get(row) !== "");
        const empty = rows.filter((row) => !known.includes(row));
        const counts = known.every((row) => !Number.isNaN(number(texts.get(row))));
        const sign = next === "descending" ? -1 : 1;
        const compare = (a, b) => sign * (counts
          ? order(number(texts.get(a)), number(texts.get(b)))
          : words.compare(texts.get(a), texts.get(b)));
        body.append(...(next === "none" ? rows : [...known.slice().sort(compare), ...empty]));
      });
    });
  }

  // A link to a run opens the table that it stands in.
  const reveal = () => {
    const id = decodeURIComponent(location.hash.slice(1));
    const target = id && document.getElementById(id);
    if (!target) return;
    for (let node = target; node; node = node.parentElement) if (node.tagName === "DETAILS") node.open = true;
    target.scrollIntoView({ block: "center" });
  };
  addEventListener("hashchange", reveal);
  reveal();

  // On paper nothing is folded away.
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = all("details:not([open])");
    folded.forEach((one) => { one.open = true; });
  });
  addEventListener("afterprint", () => folded.forEach((one) => { one.open = false; }));

  // Figures: values of the nearest mark and the runs behind it.
  const MOST = 6; // runs that are named one by one
  const ALIKE = ["parameters", "tokens", "status"]; // seldom differ between the runs of a mark
  const tip = document.getElementById("tip");
  const known = new Map(all("tr[data-run]").map((row) => [row.dataset.run, row]));
  const titles = all("#runs thead th").map((head) => head.textContent);
  let pinned = false;
  let leave = () => {};

  const facts = (row) => Array.from(row.cells)
    .map((one, k) => [titles[k], one.textContent.trim()])
    .filter(([title, text]) => title !== "run" && text !== NONE && text !== "");
  const link = (name, parent) => {
    if (!known.has(name)) return make("span", name, parent);
    const one = make("a", name, parent);
    one.href = `#${encodeURIComponent(`run-${name}`)}`;
    return one;
  };
  const list = (pairs, parent) => {
    const node = make("dl", undefined, parent);
    for (const [title, text] of pairs) { make("dt", title, node); make("dd", text, node); }
  };
  const fill = (points, which) => {
    const [cells, runs] = points.told[which];
    tip.replaceChildren();
    list(points.columns.map((title, k) => [title, cells[k]]).filter(([, text]) => text !== ""), tip);
    const names = runs.map((k) => points.runs[k]);
    if (!names.length) {
      make("p", "A reading of several runs: no single run has it.", tip);
    } else if (names.length === 1) {
      const line = make("p", "run ", tip);
      link(names[0], line);
      const told = new Set(points.columns.filter((_, k) => cells[k] !== ""));
      if (known.has(names[0])) list(facts(known.get(names[0])).filter(([title]) => !told.has(title)), tip);
    } else {
      make("p", `${names.length} runs:`, tip);
      for (const name of names.slice(0, MOST)) {
        const line = make("p", undefined, tip);
        link(name, line);
        const row = known.get(name);
        if (row) line.append(` ${facts(row).filter(([title]) => !ALIKE.includes(title)).slice(0, 4).map(([title, text]) => `${title} ${text}`).join(", ")}`);
      }
      if (names.length > MOST) make("p", `and ${names.length - MOST} more`, tip);
    }
  };
  const place = (x, y) => {
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    const left = x + 16 + box.width > innerWidth ? x - 16 - box.width : x + 16;
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${Math.max(8, Math.min(y + 12, innerHeight - box.height - 8))}px`;
  };

  for (const figure of all("figure")) {
    const frame = figure.querySelector(".frame");
    const image = frame.querySelector("img");
    const save = figure.querySelector(".save");
    save.href = image.src;
    save.hidden = false;
    const points = JSON.parse(figure.querySelector("script[type='application/json']").textContent);
    if (!points.marks.length) continue;
    all(".hint").forEach((one) => { one.hidden = false; });
    frame.tabIndex = 0;
    frame.setAttribute("role", "group");
    frame.setAttribute("aria-label", `${image.alt.split(":")[0]}: ${points.marks.length} marks, arrow keys step through them`);
    const ring = make("span", undefined, frame);
    ring.className = "ring";
    ring.hidden = true;
    const across = points.marks.map((_, k) => k).sort((a, b) => points.marks[a][0] - points.marks[b][0] || a - b);
    let at = -1; // place in `across`

    const hide = () => {
      tip.hidden = true;
      tip.classList.remove("pinned");
      ring.hidden = true;
      pinned = false;
    };
    const show = (k) => {
      if (leave !== hide) leave();
      leave = hide;
      const [x, y, which] = points.marks[k];
      at = across.indexOf(k);
      ring.style.left = `${100 * x}%`;
      ring.style.top = `${100 * y}%`;
      ring.hidden = false;
      fill(points, which);
      const box = frame.getBoundingClientRect();
      place(box.left + x * box.width, box.top + y * box.height);
    };
    const nearest = (event, reach) => {
      const box = frame.getBoundingClientRect();
      let best = -1;
      let least = reach * reach;
      points.marks.forEach(([x, y], k) => {
        const away = (box.left + x * box.width - event.clientX) ** 2 + (box.top + y * box.height - event.clientY) ** 2;
        if (away < least) { least = away; best = k; }
      });
      return best;
    };
    frame.addEventListener("pointermove", (event) => {
      if (pinned || event.pointerType === "touch") return;
      const k = nearest(event, 24);
      if (k < 0) hide(); else show(k);
    });
    frame.addEventListener("pointerleave", (event) => {
      if (!pinned && event.pointerType !== "touch") hide();
    });
    frame.addEventListener("click", (event) => {
      const k = nearest(event, event.pointerType === "touch" ? 40 : 24);
      if (k < 0) { hide(); return; }
      show(k);
      pinned = true;
      tip.classList.add("pinned");
      event.stopPropagation();
    });
    frame.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (step) {
        const next = at < 0 ? (step > 0 ? 0 : across.length - 1) : at + step;
        show(across[Math.max(0, Math.min(next, across.length - 1))]);
        pinned = true;
        tip.classList.add("pinned");
        event.preventDefault();
      } else if (event.key === "Enter" && !tip.hidden) {
        const one = tip.querySelector("a");
        if (one) { location.hash = one.hash; hide(); }
      }
    });
    frame.addEventListener("blur", (event) => { if (!tip.contains(event.relatedTarget)) hide(); });
  }
  addEventListener("keydown", (event) => { if (event.key === "Escape") leave(); });
  addEventListener("click", (event) => { if (!tip.contains(event.target) || event.target.tagName === "A") leave(); });
})();
