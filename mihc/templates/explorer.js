"use strict";
/* Draws what the page's own tables say: every value is read from the tables by its source, none is kept twice.
   No library, no request, no text taken as markup (textContent only). */
(() => {
  const data = JSON.parse(document.getElementById("explorer-data").textContent);
  const root = document.getElementById("explore");
  const SVG = "http://www.w3.org/2000/svg";
  let WIDE = 640; // of the figure, narrower on a narrow page so that its words stay readable
  const TALL = 380, LEFT = 64, RIGHT = 16, TOP = 14, BOTTOM = 52;
  const cells = new Map();
  for (const span of document.querySelectorAll("#every-number [data-source], #every-test [data-source]"))
    if (!cells.has(span.dataset.source)) cells.set(span.dataset.source, span);

  const cell = (table, line, column) => cells.get(`${table}.csv:${line}/${column}`);
  const value = (table, line, column) => {
    const found = cell(table, line, column);
    return found ? Number(found.dataset.value) : NaN;
  };
  const make = (name, attributes = {}, ...inside) => {
    const made = document.createElement(name);
    for (const [key, one] of Object.entries(attributes)) made.setAttribute(key, one);
    made.append(...inside);
    return made;
  };
  const draw = (name, attributes = {}, words = "") => {
    const made = document.createElementNS(SVG, name);
    for (const [key, one] of Object.entries(attributes)) made.setAttribute(key, one);
    if (words) made.textContent = words;
    return made;
  };
  const unique = (list) => [...new Set(list)];

  /* ---- what is chosen */
  const chosen = { column: data.start[0], question: data.start[1] };
  const picks = {};
  for (const name of ["population", "region", "measure", "against", "split"])
    picks[name] = document.getElementById(`explore-${name}`);

  const column = () => data.columns[chosen.column];
  const question = () => data.questions[chosen.question];
  const measureWords = (name) => (data.measures[name] || [name || "score", ""]);
  const placeWords = (kind) => ({ "": "", all: " in the whole tissue" }[kind] ?? ` in ${kind}`);
  const subject = () => {
    const [population, kind, measure] = column();
    const words = measure ? ` ${measureWords(measure)[0]}` : "";
    return `${data.populations[population][0]}${words}${placeWords(kind)}`;
  };
  const fill = (pick, options, now) => {
    pick.replaceChildren(...options.map(([key, words]) => make("option", { value: key }, words)));
    pick.value = String(now);
    pick.disabled = options.length < 2;
  };
  const offer = () => {
    const [population, kind, measure] = column();
    const mine = data.columns.filter((one) => one[0] === population);
    const kinds = unique(mine.map((one) => one[1]));
    const measures = unique(mine.filter((one) => one[1] === kind).map((one) => one[2]));
    fill(picks.population, data.populations.map((one, place) => [place, one[0]]), population);
    fill(picks.region, kinds.map((one) => [one, one === "all" ? "whole tissue" : one || "whole slide"]), kind);
    fill(picks.measure, measures.map((one) => [one, measureWords(one)[0]]), measure);
    const against = unique(data.questions.map((one) => one[0]));
    const splits = data.questions.map((one, place) => [place, one]).filter(([, one]) => one[0] === question()[0]);
    fill(picks.against, against.map((one) => [one, one]), question()[0]);
    fill(picks.split, splits.map(([place, one]) => [place, one[1] + (one[6] ? " (exploratory)" : "")]), chosen.question);
  };
  const nearest = (wanted) => {
    const score = (one) => (one[0] === wanted[0] ? 8 : 0) + (one[1] === wanted[1] ? 2 : 0) + (one[2] === wanted[2] ? 1 : 0);
    let best = 0;
    data.columns.forEach((one, place) => { if (score(one) > score(data.columns[best])) best = place; });
    return best;
  };
  const choose = (name) => {
    if (["population", "region", "measure"].includes(name))
      chosen.column = nearest([Number(picks.population.value), picks.region.value, picks.measure.value]);
    else if (name === "against")
      chosen.question = data.questions.findIndex((one) => one[0] === picks.against.value);
    else chosen.question = Number(picks.split.value);
    show();
  };

  /* ---- the patients of the choice */
  const patients = () => {
    const [, , endpoint, shape, , letters] = question();
    const members = shape === "survival" ? data.cuts[`${chosen.column} ${chosen.question}`] || "" : letters;
    const follow = data.endpoints[endpoint];
    return data.patients.map(([name, slides], place) => {
      const line = place + 2;
      return {
        name, slides, line, place, group: parseInt(members[place] ?? ".", 36),
        value: value("patients", line, column()[3]),
        time: follow ? value("patients", line, follow[1]) : NaN,
        event: follow ? value("patients", line, follow[2]) : NaN,
      };
    });
  };

  /* ---- axes */
  const steps = (low, high) => {
    const raw = (high - low || 1) / 6, power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 2.5, 5, 10].find((one) => one * power >= raw * 0.999) * power;
    const found = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) found.push(Number((k * step).toPrecision(12)));
    return found;
  };
  const words = (number) => (Math.abs(number) >= 1e6 ? number.toExponential(1) : String(number));
  const scale = (low, high, from, to) => (at) => from + ((at - low) / (high - low || 1)) * (to - from);
  const frame = (picture, ys, y, label) => {
    for (const at of ys) {
      picture.append(draw("path", { d: `M${LEFT} ${y(at)}H${WIDE - RIGHT}`, class: "grid" }));
      picture.append(draw("text", { x: LEFT - 8, y: y(at) + 4, "text-anchor": "end" }, words(at)));
    }
    const middle = (TOP + TALL - BOTTOM) / 2;
    picture.append(draw("text", { x: 14, y: middle, "text-anchor": "middle", transform: `rotate(-90 14 ${middle})` }, label));
  };
  const colour = (group) => data.colours[group % data.colours.length];
  const cut = (text, longest) => (text.length > longest ? `${text.slice(0, longest - 1)}…` : text);

  /* ---- one dot per patient */
  let pinned = -1;
  const dot = (picture, patient, x, y, hollow = false) => {
    const shade = colour(Number.isNaN(patient.group) ? 0 : patient.group);
    const made = draw("circle", {
      cx: x.toFixed(1), cy: y.toFixed(1), r: 5, class: "dot", fill: hollow ? "#fff" : shade, stroke: hollow ? shade : "#fff",
      tabindex: -1, role: "button", "aria-label": `patient ${patient.name}`, "data-patient": patient.place,
    });
    made.append(draw("title", {}, `${patient.name}: ${cell("patients", patient.line, column()[3])?.textContent ?? "–"}`));
    picture.append(made);
  };
  const tell = (place) => {
    const patient = patients()[place], panel = document.getElementById("explore-patient");
    const [population, kind, measure] = column();
    const follow = data.endpoints[question()[2]];
    const line = make("p", {}, make("b", {}, `Patient ${patient.name}`), `: ${subject()} `);
    const shown = cell("patients", patient.line, column()[3]);
    line.append(shown ? shown.cloneNode(true) : "not known", ` ${measureWords(measure)[1]}`);
    if (follow && !Number.isNaN(patient.time))
      line.append(`; ${question()[2]} `, cell("patients", patient.line, follow[1]).cloneNode(true),
        ` ${follow[0]}, ${patient.event ? "event" : "censored"}`);
    const list = make("ul", { class: "plainlist small" });
    for (const place of patient.slides) {
      const [slide, command, regions, told] = data.slides[place];
      if (measure && !told.includes(population)) continue;
      const item = make("li", {}, make("a", { href: `#slide-${place + 1}` }, slide));
      const named = measure ? ` --population ${data.populations[population][1]}` : "";
      const targets = !measure || kind === "all" ? [""] : (regions[kind] || []).map((one) => ` --region ${one}`);
      if (command) for (const target of targets) item.append(make("br"), copied(command + target + named));
      list.append(item);
    }
    panel.replaceChildren(line, list);
    if (!list.children.length) panel.append(make("p", { class: "small" }, "No slide of this patient shows it."));
  };
  const copied = (command) => {
    const button = make("button", { type: "button", class: "copy", "aria-label": `copy: ${command}` }, "copy");
    const code = make("code", {}, command);
    button.addEventListener("click", async () => {
      try { await navigator.clipboard.writeText(command); } catch {
        getSelection().selectAllChildren(code);
        document.execCommand("copy");
      }
      button.textContent = "copied";
    });
    const both = make("span", { class: "command-line" }, code, " ", button);
    return both;
  };

  /* ---- boxes */
  const quantile = (sorted, share) => {
    const at = (sorted.length - 1) * share, low = Math.floor(at);
    return sorted[low] + (at - low) * ((sorted[low + 1] ?? sorted[low]) - sorted[low]);
  };
  const boxes = (picture) => {
    const [, , , , levels] = question();
    const known = patients().filter((one) => !Number.isNaN(one.value) && !Number.isNaN(one.group));
    const high = Math.max(...known.map((one) => one.value), 1e-9), low = Math.min(0, ...known.map((one) => one.value));
    const y = scale(low, high * 1.04, TALL - BOTTOM, TOP);
    frame(picture, steps(low, high * 1.04), y, yLabel());
    const width = (WIDE - LEFT - RIGHT) / levels.length;
    levels.forEach((level, group) => {
      const mine = known.filter((one) => one.group === group).sort((a, b) => a.value - b.value);
      const middle = LEFT + width * (group + 0.5), half = Math.min(60, width * 0.3), sorted = mine.map((one) => one.value);
      picture.append(draw("text", { x: middle, y: TALL - 30, "text-anchor": "middle" }, cut(level, Math.floor(width / 8))));
      picture.append(draw("text", { x: middle, y: TALL - 14, "text-anchor": "middle", class: "quiet" }, `n = ${mine.length}`));
      if (!mine.length) return;
      const [q1, q2, q3] = [0.25, 0.5, 0.75].map((share) => quantile(sorted, share));
      if (mine.length >= 4) {
        const reach = 1.5 * (q3 - q1);
        const ends = [sorted.find((one) => one >= q1 - reach), sorted.findLast((one) => one <= q3 + reach)];
        picture.append(draw("path", { d: `M${middle} ${y(ends[0])}V${y(q1)}M${middle} ${y(q3)}V${y(ends[1])}`, stroke: colour(group) }));
        picture.append(draw("rect", {
          x: middle - half, y: y(q3), width: 2 * half, height: Math.max(0.5, y(q1) - y(q3)), fill: colour(group), "fill-opacity": 0.15, stroke: colour(group),
        }));
      }
      picture.append(draw("path", { d: `M${middle - half} ${y(q2)}h${2 * half}`, stroke: colour(group), "stroke-width": 3 }));
      mine.forEach((one, k) => dot(picture, one, middle + (((k * 0.6180339887498949) % 1) - 0.5) * half * 1.3, y(one.value)));
    });
  };
  const yLabel = () => {
    const unit = measureWords(column()[2])[1];
    return cut(unit ? `${subject()} (${unit})` : subject(), 56);
  };

  /* ---- every patient's time beside the value; hollow: censored */
  const times = (picture) => {
    const known = patients().filter((one) => !Number.isNaN(one.value) && !Number.isNaN(one.time) && !Number.isNaN(one.event));
    const [unit] = data.endpoints[question()[2]];
    const x = scale(0, Math.max(...known.map((one) => one.value), 1e-9) * 1.04, LEFT, WIDE - RIGHT);
    const longest = Math.max(...known.map((one) => one.time), 1e-9) * 1.04, y = scale(0, longest, TALL - BOTTOM, TOP);
    frame(picture, steps(0, longest), y, cut(`${question()[2]} (${unit}); hollow: censored`, 56));
    for (const at of steps(0, Math.max(...known.map((one) => one.value), 1e-9)))
      picture.append(draw("text", { x: x(at), y: TALL - 30, "text-anchor": "middle" }, words(at)));
    picture.append(draw("text", { x: (LEFT + WIDE) / 2, y: TALL - 10, "text-anchor": "middle" }, yLabel()));
    known.forEach((one) => dot(picture, one, x(one.value), y(one.time), !one.event));
  };

  /* ---- Kaplan-Meier with the numbers at risk: the product of 1 - events / at risk over the event times */
  const curve = (mine) => {
    let survival = 1;
    const points = [[0, 1]];
    for (const at of unique(mine.filter((one) => one.event).map((one) => one.time)).sort((a, b) => a - b)) {
      const risk = mine.filter((one) => one.time >= at).length;
      survival *= 1 - mine.filter((one) => one.event && one.time === at).length / risk;
      points.push([at, survival]);
    }
    return points;
  };
  const survival = (picture) => {
    const [, , endpoint, , levels] = question();
    const known = patients().filter((one) => !Number.isNaN(one.group) && !Number.isNaN(one.time) && !Number.isNaN(one.event));
    const lines = 16 * levels.length, bottom = TALL - BOTTOM - lines;
    const longest = Math.max(...known.map((one) => one.time), 1e-9);
    const x = scale(0, longest * 1.02, LEFT, WIDE - RIGHT), y = scale(0, 1, bottom, TOP);
    frame(picture, [0, 0.25, 0.5, 0.75, 1], y, endpoint);
    const marks = steps(0, longest);
    for (const at of marks) picture.append(draw("text", { x: x(at), y: bottom + 18, "text-anchor": "middle" }, words(at)));
    picture.append(draw("text", { x: WIDE - RIGHT, y: bottom + 32, "text-anchor": "end" }, `time (${data.endpoints[endpoint][0]})`));
    picture.append(draw("text", { x: 4, y: bottom + 34, class: "quiet" }, "at risk"));
    levels.forEach((level, group) => {
      const mine = known.filter((one) => one.group === group);
      const points = curve(mine), last = Math.max(0, ...mine.map((one) => one.time));
      const path = points.map(([at, share], k) => (k ? `H${x(at).toFixed(1)}V${y(share).toFixed(1)}` : `M${x(at)} ${y(share)}`)).join("");
      const told = points.map(([at, share]) => `${at}:${share}`).join(" ");
      picture.append(draw("path", { d: `${path}H${x(last).toFixed(1)}`, stroke: colour(group), "stroke-width": 2, fill: "none", "data-curve": told }));
      picture.append(draw("text", { x: WIDE - RIGHT, y: TOP + 12 + 16 * group, "text-anchor": "end", fill: colour(group), "font-weight": 600 },
        `${cut(level, 30)} (n = ${mine.length}, ${mine.filter((one) => one.event).length} events)`));
      const row = bottom + 50 + 16 * group;
      picture.append(draw("text", { x: 4, y: row, fill: colour(group) }, cut(level, 6)));
      for (const at of marks)
        picture.append(draw("text", { x: x(at), y: row, "text-anchor": "middle", fill: colour(group), "data-at-risk": `${group} ${at}` },
          String(mine.filter((one) => one.time >= at).length)));
      for (const one of mine) {
        const share = points.filter(([at]) => at <= one.time).at(-1)[1];
        dot(picture, one, x(one.time), y(share), !one.event);
      }
    });
  };

  /* ---- the tests of the choice, from the table of all tests */
  const tests = () => {
    const body = make("tbody");
    for (const [line, place, asked, name] of data.tests) {
      if (place !== chosen.column || asked !== chosen.question) continue;
      const at = (columnName) => {
        const found = cell("statistics", line, columnName);
        return found ? found.cloneNode(true) : "–";
      };
      const known = cell("statistics", line, "ci_low") || cell("statistics", line, "ci_high");
      const span = known ? make("td", { class: "n" }, at("ci_low"), " to ", at("ci_high")) : make("td", { class: "n" }, "–");
      body.append(make("tr", {}, make("td", {}, name), ...["n", "estimate"].map((one) => make("td", { class: "n" }, at(one))), span,
        ...["p", "p_adjusted"].map((one) => make("td", { class: "n" }, at(one)))));
    }
    const names = ["test", "n", "estimate", "95 % CI", "p", "adjusted p"];
    for (const row of body.rows) names.forEach((name, k) => row.cells[k].setAttribute("data-column", name));
    const heads = names.map((one, k) => make("th", k ? { class: "n" } : {}, one));
    return body.children.length ? make("table", { class: "cards" }, make("thead", {}, make("tr", {}, ...heads)), body)
      : make("p", { class: "small" }, "This was not tested, or could not be.");
  };

  const show = () => {
    pinned = -1;
    offer();
    const room = document.getElementById("explore-figure");
    WIDE = Math.max(330, Math.min(640, room.clientWidth || 640));
    const picture = draw("svg", { viewBox: `0 0 ${WIDE} ${TALL}`, role: "group", "aria-label": `${subject()} and ${question()[0]}, ${question()[1]}` });
    ({ boxes, survival, time: times })[question()[3]](picture);
    picture.querySelector(".dot")?.setAttribute("tabindex", 0);
    room.replaceChildren(picture);
    document.getElementById("explore-tests").replaceChildren(tests());
    document.getElementById("explore-patient").replaceChildren(make("p", { class: "small quiet" }, "Point at a dot, or choose one, for its patient, slides and the command that opens them."));
  };

  if (root && data.questions.length) {
    root.hidden = false;
    for (const [name, pick] of Object.entries(picks)) pick.addEventListener("change", () => choose(name));
    const figure = document.getElementById("explore-figure");
    const of = (event) => (event.target.dataset?.patient === undefined ? -1 : Number(event.target.dataset.patient));
    const rest = (event) => { if (of(event) >= 0 && pinned < 0) tell(of(event)); };
    figure.addEventListener("pointerover", rest);
    figure.addEventListener("focusin", rest);
    const pin = (place) => {
      pinned = place;
      figure.querySelectorAll(".dot").forEach((one) => one.classList.toggle("pinned", Number(one.dataset.patient) === place));
      if (place >= 0) tell(place);
    };
    figure.addEventListener("click", (event) => pin(of(event)));
    figure.addEventListener("keydown", (event) => {
      const dots = [...figure.querySelectorAll(".dot")], at = dots.indexOf(event.target);
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (at < 0) return;
      if (event.key === "Enter" || event.key === " ") pin(of(event));
      else if (step) {
        const next = dots[(at + step + dots.length) % dots.length];
        event.target.setAttribute("tabindex", -1);
        next.setAttribute("tabindex", 0);
        next.focus();
      } else return;
      event.preventDefault();
    });
    for (const one of document.querySelectorAll("[data-explore]")) {
      const go = () => {
        [chosen.column, chosen.question] = one.dataset.explore.split(" ").map(Number);
        show();
        root.scrollIntoView();
      };
      one.setAttribute("tabindex", 0);
      one.setAttribute("role", "button");
      one.addEventListener("click", go);
      one.addEventListener("keydown", (event) => { if (event.key === "Enter") go(); });
    }
    show();
  }
})();
