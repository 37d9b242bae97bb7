"use strict";
(() => {
  const root = document.documentElement, table = document.querySelector("[aria-labelledby=settings] table");
  const heads = [...table.tHead.rows[0].cells], bodies = [...table.tBodies];
  const columns = new Map(heads.map((head, i) => [head.dataset.key.toLowerCase(), i]));
  for (const [i, head] of heads.entries()) {
    const short = head.textContent.toLowerCase();
    if (!columns.has(short)) columns.set(short, i); // n_mels for features.n_mels
  }
  root.classList.add("js");

  const value = (body, column) => body.rows[0].cells[column].dataset.v;
  const line = (body) => document.getElementById(`parallel-setting-${body.id.slice(1)}`);

  // Numbers before words, what is missing last whichever way it is sorted.
  const compare = (a, b, sign) => {
    if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
    const [x, y] = [Number(a), Number(b)];
    if (Number.isNaN(x) && Number.isNaN(y)) return sign * a.localeCompare(b);
    if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
    return sign * (x - y);
  };

  const sort = (column) => {
    const head = heads[column], now = head.getAttribute("aria-sort");
    const first = head.classList.contains("num") ? "descending" : "ascending";
    const order = now === null ? first : now === "ascending" ? "descending" : "ascending";
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", order);
    const keyed = bodies.map((body) => [value(body, column), body]);
    keyed.sort((a, b) => compare(a[0], b[0], order === "ascending" ? 1 : -1) || a[1].id.slice(1) - b[1].id.slice(1));
    table.append(...keyed.map(([, body]) => body));
  };
  heads.forEach((head, i) => head.firstElementChild.addEventListener("click", () => sort(i)));

  // A term is a word anywhere in the row or its runs, or KEY=VALUE with = != < > <= >=.
  const matcher = (term) => {
    const parts = /^([^=<>!]+)(!=|<=|>=|=|<|>)(.+)$/.exec(term);
    const column = parts && columns.get(parts[1]);
    if (column === undefined || column === null) return (body) => words(body).includes(term);
    const [, , sign, wanted] = parts, number = Number(wanted);
    return (body) => {
      const found = value(body, column);
      if (found === undefined) return false;
      const same = Number.isNaN(number) ? found.toLowerCase() === wanted : Number(found) === number;
      const holds = { "=": same, "!=": !same, "<": Number(found) < number, ">": Number(found) > number };
      return sign.length === 2 && sign !== "!=" ? same || holds[sign[0]] : holds[sign];
    };
  };
  const texts = new Map();
  const words = (body) => {
    if (!texts.has(body)) texts.set(body, body.textContent.toLowerCase());
    return texts.get(body);
  };

  const count = document.getElementById("count"), all = count.textContent;
  const filter = (text) => {
    const tests = text.toLowerCase().split(/\s+/).filter(Boolean).map(matcher);
    let shown = 0;
    for (const body of bodies) {
      const fits = tests.every((test) => test(body));
      body.hidden = !fits;
      line(body)?.classList.toggle("out", !fits);
      shown += fits;
    }
    count.textContent = tests.length ? `${shown} of ${all}` : all;
  };
  const box = document.getElementById("filter");
  box.hidden = false;
  box.querySelector("input").addEventListener("input", (event) => filter(event.target.value));

  const open = (body) => body.querySelector(".more").setAttribute("aria-expanded", body.classList.toggle("open"));
  table.addEventListener("click", (event) => {
    const body = event.target.closest("tbody"), row = event.target.closest("tr");
    if (body && row === body.rows[0] && !getSelection().toString()) open(body);
  });

  // The row under the pointer, or with the keyboard's focus, lights its line, on top of the others.
  const light = (on) => (event) => {
    const body = event.target.closest?.("tbody"), path = body && body.id && line(body);
    if (!path) return;
    path.classList.toggle("lit", on);
    if (on && path.parentNode.lastElementChild !== path) path.parentNode.append(path);
  };
  table.addEventListener("mouseover", light(true));
  table.addEventListener("mouseout", light(false));
  table.addEventListener("focusin", light(true));
  table.addEventListener("focusout", light(false));
})();
