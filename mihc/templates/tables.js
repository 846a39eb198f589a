"use strict";
/* Every table of the page can be sorted by a column and taken away as CSV: full numbers, and nothing that a
   spreadsheet would run as a formula. */
(() => {
  const FORMULA = /^[=+\-@\t\r]/;
  const number = (cell) => {
    const span = cell.querySelector("[data-value]");
    return span ? Number(span.dataset.value) : NaN;
  };
  const order = (a, b) => {
    const [x, y] = [number(a), number(b)];
    if (!Number.isNaN(x) && !Number.isNaN(y)) return x - y;
    if (Number.isNaN(x) !== Number.isNaN(y)) return Number.isNaN(x) ? 1 : -1;
    return a.textContent.trim().localeCompare(b.textContent.trim(), "en", { numeric: true });
  };
  const sortable = (table) => {
    const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
    const rows = [...body.rows];
    if (rows.length < 3 || rows.some((row) => row.cells.length !== heads.length)) return;
    heads.forEach((head, place) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((one) => one.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const kept = rows.filter((row) => row.classList.contains("total"));
        const moved = rows.filter((row) => !row.classList.contains("total"));
        moved.sort((a, b) => (down ? -1 : 1) * order(a.cells[place], b.cells[place]));
        body.append(...moved, ...kept);
      });
    });
  };

  /* ---- on a phone a row becomes a card: each cell says its column, so that no column lies beyond the edge */
  const FEWEST = 6, MOST = 16; // columns: fewer fit, and of more (a patient's values) a card would be endless
  const stackable = (table) => {
    const heads = [...table.tHead.rows[0].cells], rows = [...table.tBodies[0].rows];
    if (heads.length < FEWEST || heads.length > MOST || table.classList.contains("heat")) return;
    if (rows.some((row) => row.cells.length !== heads.length)) return;
    table.classList.add("cards");
    for (const row of rows)
      heads.forEach((head, place) => row.cells[place].setAttribute("data-column", head.textContent.trim()));
  };

  /* ---- CSV: a cell with several numbers becomes as many columns, named by where they come from */
  const quoted = (text) => {
    const safe = FORMULA.test(text) ? `'${text}` : text;
    return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  const parts = (cell) => [...cell.querySelectorAll("[data-value]")].map((span) => [span.dataset.source.split("/").slice(1).join("/"), span.dataset.value]);
  const csv = (table) => {
    const heads = [...table.tHead.rows[0].cells].map((one) => one.textContent.trim());
    const rows = [...table.tBodies[0].rows].filter((row) => row.cells.length === heads.length);
    const several = heads.map((_, place) => {
      const names = new Set(rows.flatMap((row) => parts(row.cells[place]).map(([name]) => name)));
      return names.size > 1 && rows.every((row) => parts(row.cells[place]).length !== 1 || names.size < 4) ? [...names] : [];
    });
    const line = (row) => heads.flatMap((_, place) => {
      const found = parts(row.cells[place]), text = row.cells[place].textContent.trim().replace(/\s+/g, " ");
      if (several[place].length) return several[place].map((name) => found.find(([one]) => one === name)?.[1] ?? "");
      return [found.length === 1 ? found[0][1] : quoted(text === "–" ? "" : text)];
    });
    const head = heads.flatMap((name, place) => (several[place].length ? several[place] : [name])).map(quoted);
    return [head, ...rows.map(line)].map((one) => one.join(",")).join("\n") + "\n";
  };
  const nameOf = (box) => {
    const near = box.closest("details")?.querySelector("summary") ?? box.closest("section")?.querySelector("h3, h2");
    const words = (near?.textContent ?? "table").trim().replace(/[^A-Za-z0-9]+/g, "-").replace(/^-|-$/g, "").slice(0, 60);
    return `${words || "table"}.csv`;
  };
  const take = (box, table) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(["\ufeff", csv(table)], { type: "text/csv" }));
    link.download = nameOf(box);
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  for (const box of document.querySelectorAll(".scroll")) {
    const table = box.querySelector("table");
    if (!table?.tHead || !table.tBodies.length) continue;
    stackable(table);
    sortable(table);
    const button = document.createElement("button");
    button.type = "button";
    button.className = "take";
    button.textContent = "CSV";
    button.setAttribute("aria-label", "download this table as CSV");
    button.addEventListener("click", () => take(box, table));
    box.before(button);
  }

  /* ---- on paper nothing can be unfolded; the long tables stay in their files */
  const LONG = ".finding, #every-number, #every-test, #provenance ~ *";
  let unfolded = [];
  addEventListener("beforeprint", () => {
    unfolded = [...document.querySelectorAll("details:not([open])")].filter((one) => !one.closest(LONG));
    for (const one of unfolded) one.open = true;
  });
  addEventListener("afterprint", () => { for (const one of unfolded) one.open = false; });
})();
