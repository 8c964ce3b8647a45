"use strict";
(() => {
  const $ = (q, at = document) => at.querySelector(q);
  const grid = $(".grid"), form = $(".filters"), dialog = $("dialog"), stage = $(".stage");
  const cards = [...grid.children];
  const more = $(".more button"), few = 24;
  let shown = cards, at = 0, old = false, all = false;

  function filter() {
    const { style, reason, subject, order } = Object.fromEntries(new FormData(form));
    const wanted = reason.replaceAll(" ", "_"), name = subject.trim().toLowerCase();
    shown = cards.filter(card => {
      const d = card.dataset, [state, reasons] = d.reasons.split(" ");
      const fits = (!style || d.style === style) && (!name || d.subject.includes(name)) &&
        (!wanted || state === wanted || reasons.split("|").includes(wanted));
      return fits;
    });
    const rank = new Map(cards.map((card, n) => [card, n]));
    const by = {
      worst: (a, b) => rank.get(a) - rank.get(b),
      best: (a, b) => b.dataset.margin - a.dataset.margin,
      name: (a, b) => a.dataset.subject.localeCompare(b.dataset.subject) || rank.get(a) - rank.get(b),
    }[order];
    shown.sort(by);
    grid.append(...shown);
    for (const card of cards) card.hidden = true;
    shown.forEach((card, n) => { card.hidden = !all && n >= few; });
    more.hidden = all || shown.length <= few;
    more.textContent = `Show all ${shown.length}`;
    $("output", form).textContent = `${shown.length} of ${cards.length} pictures`;
    for (const card of cards) card.tabIndex = -1;
    if (shown[0]) shown[0].tabIndex = 0;
  }

  function focus(n) {
    if (!shown.length) return;
    at = Math.max(0, Math.min(shown.length - 1, n));
    for (const card of cards) card.tabIndex = -1;
    shown[at].hidden = false;
    shown[at].tabIndex = 0;
    shown[at].focus();
  }

  const columns = () => getComputedStyle(grid).gridTemplateColumns.split(" ").length;

  function cut(value) {
    stage.style.setProperty("--cut", `${value}%`);
  }

  function show(n) {
    at = Math.max(0, Math.min(shown.length - 1, n));
    const card = shown[at], d = card.dataset, before = $(".before", stage), image = $(".shot img", card);
    const other = $(".old", card);
    before.className = old && other ? "before" : `before ${d.before}`;
    before.style.backgroundImage = old && other ? `url(${other.src})` : "";
    $("img", stage).src = image ? image.src : "data:,";
    $("h3", dialog).textContent = `${$(".who", card).firstChild.textContent} · ${d.style}`;
    $(".facts", dialog).textContent = d.facts;
    $(".why", dialog).textContent = d.why;
    const button = $("[data-old]", dialog);
    button.hidden = !other;
    button.firstChild.textContent = old ? "against the photo " : "against the baseline ";
    const range = $("input", stage);
    range.value = 50;
    cut(50);
    if (!dialog.open) dialog.showModal();
    range.focus();
  }

  form.addEventListener("input", filter);
  more.addEventListener("click", () => { all = true; filter(); focus(few); });
  addEventListener("beforeprint", () => {
    for (const image of grid.querySelectorAll("img")) image.loading = "eager";
    for (const card of shown) card.hidden = false;
  });
  addEventListener("afterprint", filter);
  filter();
  form.addEventListener("submit", event => event.preventDefault());
  stage.addEventListener("input", event => cut(event.target.value));
  grid.addEventListener("click", event => {
    const card = event.target.closest(".card");
    if (card) show(shown.indexOf(card));
  });
  grid.addEventListener("keydown", event => {
    at = shown.indexOf(document.activeElement);
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns(), ArrowUp: -columns() }[event.key];
    if (step) focus(at + step);
    else if (event.key === "Home") focus(0);
    else if (event.key === "End") focus(shown.length - 1);
    else if (event.key === "Enter" || event.key === " ") show(at);
    else return;
    event.preventDefault();
  });
  dialog.addEventListener("click", event => {
    const button = event.target.closest("button");
    if (event.target === dialog || button?.dataset.close !== undefined) dialog.close();
    else if (button?.dataset.old !== undefined) { old = !old; show(at); }
    else if (button) show(at + Number(button.dataset.step));
  });
  dialog.addEventListener("close", () => focus(at));
  document.addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (dialog.open) {
      const step = { j: 1, k: -1, PageDown: 1, PageUp: -1 }[event.key];
      if (step) show(at + step);
      else if (event.key === "b") { old = !old; show(at); }
      else return;
      event.preventDefault();
    } else if (event.key === "/" && event.target.tagName !== "INPUT") {
      event.preventDefault();
      form.elements.subject.focus();
      form.scrollIntoView();
    }
  });
})();
