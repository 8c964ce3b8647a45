// The page's parts are HTML that Python sends. Here is what happens between two of them: everything a visitor does is
// sent as one action, with what the form says.
window.portraitStudio = (() => {
  const $ = (selector, root = document) => root.querySelector(selector);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const IDLE = 350;  // milliseconds without a further move before a control acts
  const view = { comparing: false, side: false, cut: 50, open: new Set() };  // what survives a part that is sent anew
  const memory = (name, value) => {  // what survives a reload of the tab
    try {
      if (value !== undefined) sessionStorage.setItem(`portrait-${name}`, value);
      return sessionStorage.getItem(`portrait-${name}`) || "";
    } catch (error) { return ""; }
  };
  const saved = new Set(memory("saved").split(",").filter(Boolean));  // numbers of the pictures that were taken away
  const save = (number) => { saved.add(number); memory("saved", [...saved].join(",")); };
  let wire = null;

  // What is said to screen readers
  const say = (text) => {
    let region = $("#announcer");
    if (!region) {
      region = document.createElement("div");
      Object.assign(region, { id: "announcer", className: "sr" });
      region.setAttribute("role", "status");
      document.body.append(region);
    }
    region.textContent = text;
  };
  let spoken = "";
  const announce = (element) => {
    const said = $("[data-announce]", element);
    const key = said && (said.dataset.announce || said.textContent);
    if (key && key !== spoken) say(said.classList.contains("say") ? key : said.textContent);
    spoken = key || spoken;
  };

  // The form
  const values = () => {
    const form = $("#form");
    const read = { keep: [] };
    for (const [name, value] of form ? new FormData(form) : []) {
      if (Array.isArray(read[name])) read[name].push(value);
      else read[name] = value;
    }
    return read;
  };
  const setBusy = (on) => {
    const waited = !on && document.activeElement === $("#cancel");
    document.documentElement.classList.toggle("busy", on);
    if (waited) ($(".choices button") || $("#make")).focus({ preventScroll: true });
  };
  const isBusy = () => document.documentElement.classList.contains("busy");
  const act = (name, more = {}) => wire.trigger("submit", { act: name, values: values(), ...more });
  const begin = (name, more) => {  // an action that draws: the page says so at once
    clearTimeout(pause);
    if ($(".photo[data-ready]")) setBusy(true);
    if (document.activeElement.closest(".actions")) $("#cancel").focus();
    act(name, more);
  };
  let pause = 0;
  const soon = (more) => {
    clearTimeout(pause);
    pause = setTimeout(() => begin("adjust", more), IDLE);
  };
  const changed = (input) => {
    const row = input.closest(".knob, #balance");
    const output = row && $("output", row);
    if (input.type === "range" && output) output.textContent = input.value;
    if (input.dataset.auto) {
      const range = $("input[type=range]", row);
      range.disabled = input.checked;
      output.textContent = input.checked ? "" : range.value;
    }
    if (input.name === "frame") showCrop();
    if (input.dataset.axis) {
      const { shift } = cropNow();
      shift[input.dataset.axis] = input.value / 100;
      moveCrop(shift.x, shift.y);
    }
    if (input.name === "background") {
      const own = $("[data-file=backdrop]");
      if (input.value === "picture" && !own.hasAttribute("data-has")) own.click();
      all(".color").forEach((one) => { one.hidden = !one.dataset.kinds.split(" ").includes(input.value); });
    }
    if (input.getAttribute("aria-invalid")) input.removeAttribute("aria-invalid");
  };

  const strength = (value) => {
    const range = $("#balance-range");
    range.value = value;
    changed(range);
    begin("adjust");
  };

  // What was focused, open and compared stays so when Python sends a part anew.
  const part = (name, element, watch) => {
    let key = null;
    element.addEventListener("focusin", (e) => { key = e.target.dataset ? e.target.dataset.key : null; });
    element.addEventListener("focusout", (e) => { if (e.relatedTarget) key = null; });
    const arrived = () => {
      announce(element);
      all("[data-fold]", element).forEach((one) => { one.open = view.open.has(one.dataset.fold); });
      if (name === "photo") {
        cameraOff();
        const alert = $(".alert", element);
        if (alert) alert.scrollIntoView({ block: "nearest" });
      }
      if (name === "viewer") shown(element);
      if (name === "history") newest(element);
      if (name === "controls") showCrop();
      if (name === "controls" || name === "previews") previews();
      const lost = document.activeElement === document.body || !document.activeElement;
      const same = `[data-key="${CSS.escape(key || "")}"]`;
      const first = (where) => all("button:enabled, a, summary, input", where).find((one) => one.offsetParent);
      const next = () => first(element) || (name === "history" && first($("#photo")));  // if what was focused is gone
      const again = key && lost && ($(same, element) || $(same) || next());
      if (again && !again.disabled) again.focus({ preventScroll: true });
    };
    watch("value", arrived);
    arrived();
  };
  const shown = (element) => {
    const state = $(".viewer", element).dataset.state;
    document.documentElement.dataset.state = state;
    setBusy(state === "working");
    compare();
    if ($("#zoom[open][data-follows]")) state === "done" ? zoom() : $("#zoom").close();
    const share = $("[data-act=share]", element);
    if (share) share.hidden = !(navigator.canShare && navigator.canShare({ files: [new File([""], "a.png", { type: "image/png" })] }));
    const wrong = $("[data-field]", element);
    const field = wrong && $(`#form [name="${wrong.dataset.field}"]`);
    if (field) {
      field.setAttribute("aria-invalid", "true");
      for (let fold = field.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
      field.focus();
    }
  };
  const previews = () => {
    all("#previews [data-place]").forEach(({ dataset: { place, src } }) => {
      const card = $(`[data-preview="${CSS.escape(place)}"]`), strength = $(`[data-strength="${CSS.escape(place)}"]`);
      if (card && card.tagName === "IMG") card.src = src;
      else if (card) card.outerHTML = `<img src="${src}" alt="" data-preview="${place}">`;
      if (strength) {
        $("img", strength).src = src;
        strength.hidden = false;
      }
    });
  };
  let last = "";
  const newest = (element) => {
    const current = $("[aria-current]", element);
    if (current && current.dataset.show !== last) {
      const list = $("ol", element), item = current.closest("li");
      list.scrollLeft = item.offsetLeft - (list.clientWidth - item.clientWidth) / 2;
    }
    last = current ? current.dataset.show : "";
  };

  // Before and after
  const compare = () => {
    const viewer = $(".viewer");
    viewer.classList.toggle("comparing", view.comparing);
    viewer.classList.toggle("side", view.comparing && view.side);
    const button = $("[data-act=compare]", viewer);
    if (button) button.setAttribute("aria-pressed", String(view.comparing));
    const side = $("[data-side]", viewer);
    if (side) side.checked = view.side;
    cut(view.cut);
  };
  const cut = (percent) => {
    view.cut = Math.round(Math.min(100, Math.max(0, percent)));
    const pair = $("#viewer .pair"), range = $(".cut");
    if (!range) return;
    range.value = view.cut;
    range.setAttribute("aria-valuetext", range.dataset.value.replace("{n}", view.cut));
    pair.style.setProperty("--cut", `${view.cut}%`);
    pair.classList.toggle("no-left", view.cut < 18);
    pair.classList.toggle("no-right", view.cut > 82);
  };

  // The crop: a square over the photo, moved in shares of its side
  const cropNow = () => {
    const stage = $(".crop"), frame = $("#form [name=frame]:checked");
    if (!stage || !frame) return null;
    const [side, left, top, leftLeast, leftMost, topLeast, topMost] = JSON.parse(stage.dataset.squares)[frame.value];
    const room = { x: [leftLeast - left, leftMost - left], y: [topLeast - top, topMost - top] };
    const [x, y] = $("#form [name=shift]").value.split(",").map(Number);
    return { stage, side, left, top, room, shift: { x, y }, width: Number(stage.style.getPropertyValue("--w")), height: Number(stage.style.getPropertyValue("--h")) };
  };
  const clamp = (value, [least, most]) => Math.min(most, Math.max(least, value));
  const showCrop = () => {  // where it is now, as far as there is room
    const crop = cropNow();
    if (!crop) return;
    const { stage, side, room, shift } = crop;
    const [x, y] = ["x", "y"].map((axis) => clamp(Math.round(shift[axis] * side), room[axis]));
    place($("i", stage), [(crop.left + x) / crop.width, (crop.top + y) / crop.height, side / crop.width, side / crop.height]);
    all("[data-axis]", stage).forEach((range) => {
      const axis = range.dataset.axis;
      Object.assign(range, { min: Math.ceil(100 * room[axis][0] / side), max: Math.floor(100 * room[axis][1] / side) });
      range.value = Math.round(100 * (axis === "x" ? x : y) / side);
      range.disabled = room[axis][0] === room[axis][1];
      range.setAttribute("aria-valuetext", stage.dataset.value.replace("{n}", range.value));
    });
    stage.toggleAttribute("data-fixed", Object.values(room).every(([least, most]) => least === most));
    $("[data-act=center]").hidden = !shift.x && !shift.y;
  };
  const moveCrop = (x, y) => {
    const { side, room } = cropNow();
    const share = (value, axis) => Number((clamp(Math.round(value * side), room[axis]) / side).toFixed(4));
    $("#form [name=shift]").value = `${share(x, "x")},${share(y, "y")}`;
    showCrop();
  };
  const dragCrop = (e, { from, shift }) => {
    const { stage, side, width } = cropNow();
    const pixels = side * stage.getBoundingClientRect().width / width;
    moveCrop(shift.x + (e.clientX - from.x) / pixels, shift.y + (e.clientY - from.y) / pixels);
  };
  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const pushCrop = ([x, y]) => {
    const { shift } = cropNow();
    moveCrop(shift.x + 0.02 * x, shift.y + 0.02 * y);
    soon();
  };

  // Files
  const problem = (element, text) => {
    all(".alert", element).forEach((old) => old.remove());
    if (!text) return;
    const alert = document.createElement("p");
    alert.className = "alert";
    alert.setAttribute("role", "alert");
    alert.textContent = text;
    $(".drop, .photo", element).before(alert);
    alert.scrollIntoView({ block: "nearest" });
  };
  let sent = 0;  // how many files were sent; an upload that was slow gives way
  const send = async (file, what = "photo") => {
    const element = $("#photo");
    const texts = $("input[data-file]", element).dataset;
    problem(element, "");
    if (!file) return problem(element, texts.nothing);
    if (file.size > texts.limit * 1e6) {
      return problem(element, texts.tooLarge.replace("{size:.0f}", (file.size / 1e6).toFixed(0)).replace("{limit}", texts.limit));
    }
    if (what === "photo" && !(await mayReplace())) return;
    const mine = ++sent;
    element.classList.add("sending");
    try {
      const { path } = await wire.upload(file);
      if (sent === mine) act(what, { path, name: file.name || "" });
    } catch (error) {
      if (sent === mine) problem(element, texts.failed);
    } finally {
      if (sent === mine) element.classList.remove("sending");
    }
  };

  // Questions before something is lost
  const unsaved = () => all("#history [data-show]").map((one) => one.dataset.show).filter((number) => !saved.has(number));
  const ask = (what, count) => new Promise((answer) => {
    const dialog = $("#ask");
    $("p", dialog).textContent = dialog.dataset[count ? what : "saved"].replace("{n}", count);
    $("[value=yes]", dialog).textContent = dialog.dataset[`${what}Yes`];
    const every = $(".every"), link = $("a", dialog);
    link.hidden = !every || !count;
    if (every) Object.assign(link, { href: every.href, download: every.download }).dataset.saves = every.dataset.saves;
    dialog.returnValue = "";
    dialog.addEventListener("close", () => answer(dialog.returnValue === "yes"), { once: true });
    dialog.showModal();
  });
  let asked = new Set();  // the pictures about which the visitor said that the photo may go
  const mayReplace = async () => {
    const open = unsaved().filter((number) => !asked.has(number));
    if (open.length && !(await ask("replace", open.length))) return false;
    asked = new Set(unsaved());
    return true;
  };

  // The camera
  let stream = null;
  const cameraOff = () => {
    if (stream) stream.getTracks().forEach((track) => track.stop());
    stream = null;
    const box = $(".camera");
    if (box) box.hidden = true;
  };
  const cameraOn = async () => {
    const box = $(".camera");
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 } } });
      const video = $("video", box);
      video.srcObject = stream;
      box.hidden = false;
      await video.play();
      $("button", box).focus();
    } catch (error) {
      problem($("#photo"), box.dataset.none);
    }
  };
  const shoot = () => {
    const video = $(".camera video");
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    canvas.getContext("2d").drawImage(video, 0, 0);
    canvas.toBlob((blob) => { cameraOff(); send(new File([blob], "camera.png", { type: "image/png" })); }, "image/png");
  };

  // Taking the picture away
  const copyText = (button) => {
    const code = $(".command code");
    const copied = () => { button.textContent = button.dataset.copied; say(button.dataset.copied); };
    const select = () => {  // without TLS, or without leave, a browser has no clipboard
      getSelection().selectAllChildren(code);
      if (document.execCommand("copy")) copied();
    };
    if (navigator.clipboard) navigator.clipboard.writeText(code.textContent).then(copied, select);
    else select();
  };
  const pictureFile = async () => {
    const link = $("#viewer a.primary");
    const blob = await (await fetch(link.href)).blob();
    return new File([blob], link.download, { type: "image/png" });
  };
  const flash = (button, text) => {
    const label = $("span", button);
    button.dataset.text = button.dataset.text || label.textContent;
    label.textContent = text;
    button.classList.add("told");  // also where it is only an icon
    say(text);
    setTimeout(() => { label.textContent = button.dataset.text; button.classList.remove("told"); }, 2000);
  };
  const copyPicture = async (button) => {
    try {
      await navigator.clipboard.write([new ClipboardItem({ "image/png": pictureFile() })]);
      save(button.dataset.saves);
      flash(button, button.dataset.copied);
    } catch (error) {
      flash(button, button.dataset.failed);
    }
  };
  const share = async (button) => {
    try {
      await navigator.share({ files: [await pictureFile()] });
      save(button.dataset.saves);
    } catch (error) { /* the visitor thought better of it */ }
  };
  const zoom = (button) => {
    const dialog = $("#zoom"), own = button && $("img", button), picture = own || $(".pair .after");
    Object.assign($("img", dialog), { src: picture.src, alt: own ? button.getAttribute("aria-label") : picture.alt });
    dialog.classList.remove("whole");
    dialog.toggleAttribute("data-follows", !own);  // shows what the viewer shows
    if (!dialog.open) dialog.showModal();
  };

  // An area that must not change, drawn on the photo
  let from = null;
  const draw = () => {
    const photo = $(".photo img"), dialog = $("#draw");
    if (!photo) return begin("make");  // which says that a photo is missing
    const stage = $(".stage", dialog);
    $("img", dialog).src = photo.src;
    Object.assign(stage.dataset, { width: photo.dataset.width, height: photo.dataset.height });
    stage.style.setProperty("--w", photo.dataset.width);
    stage.style.setProperty("--h", photo.dataset.height);
    const box = $("[name=region]").value.split(",").map(Number);
    const region = $(".region", dialog);
    region.hidden = box.length !== 4;
    if (!region.hidden) place(region, [box[0] / photo.dataset.width, box[1] / photo.dataset.height, box[2] / photo.dataset.width, box[3] / photo.dataset.height]);
    dialog.showModal();
  };
  const place = (region, [x, y, w, h]) => {
    Object.assign(region.style, { left: `${100 * x}%`, top: `${100 * y}%`, width: `${100 * w}%`, height: `${100 * h}%` });
  };
  const at = (e, stage) => {
    const box = stage.getBoundingClientRect();
    return [(e.clientX - box.left) / box.width, (e.clientY - box.top) / box.height].map((v) => Math.min(1, Math.max(0, v)));
  };
  const drawn = (e, stage) => {
    const to = at(e, stage);
    return [Math.min(from[0], to[0]), Math.min(from[1], to[1]), Math.abs(from[0] - to[0]), Math.abs(from[1] - to[1])];
  };
  const drawTo = (e, stage) => {
    const [x, y, w, h] = drawn(e, stage);
    const [W, H] = [Number(stage.dataset.width), Number(stage.dataset.height)];
    const some = w * W >= 2 && h * H >= 2;
    const [left, top] = [Math.round(x * W), Math.round(y * H)];
    $(".region", stage).hidden = !some;
    $("[name=region]").value = some
      ? [left, top, Math.min(W - left, Math.round(w * W)), Math.min(H - top, Math.round(h * H))].join(",") : "";
  };

  const clicks = {
    camera: cameraOn, "camera-off": () => { cameraOff(); $("[data-act=camera]").focus(); }, shoot, draw, zoom, share, copy: copyText, "copy-picture": copyPicture,
    center: () => { moveCrop(0, 0); soon(); },
    keys: () => $("#keys").showModal(),
    compare: () => { view.comparing = !view.comparing; compare(); },
    "save-look": () => act("save-look"),
    "drop-reference": (button) => act("drop-reference", { number: Number(button.dataset.number), form: true }),
    undo: () => act("history", { do: "undo" }),
    choices: () => act("history", { do: "choices" }),
    show: (button) => act("history", { do: "show", number: Number(button.dataset.show) }),
    star: (button) => act("history", { do: "star", number: Number(button.dataset.number), on: button.getAttribute("aria-pressed") !== "true" }),
    delete: (button) => act("history", { do: "delete", number: Number(button.dataset.number) }),
    reset: async () => {
      const open = unsaved();
      if (!all("#history [data-show]").length || (await ask("reset", open.length))) { saved.clear(); memory("saved", ""); act("reset"); }
    },
  };

  // Keys: what they press, and the neighbors in the history
  const KEYS = { "Ctrl+Enter": "#make", "Ctrl+s": "#viewer a.primary", "Ctrl+z": "[data-act=undo]", Delete: "[data-state=done] [data-act=delete]", "?": "[data-act=keys]" };
  const press = (e) => {
    const name = `${e.ctrlKey || e.metaKey ? "Ctrl+" : ""}${e.key}`;
    const control = KEYS[name] && $(KEYS[name]);
    const writes = e.target.matches("input:not([type=radio], [type=checkbox], [type=range], [type=file])");
    if (!control || control.disabled || e.repeat || !(control.offsetParent || name === "?") || (writes && name !== "Ctrl+Enter")) return;
    e.preventDefault();
    control.click();
  };
  let stepping = 0;
  const stepTo = (e) => {
    const items = all("#history [data-show]"), now = items.findIndex((one) => one.hasAttribute("aria-current"));
    const next = items[now + (e.key === "ArrowRight" ? 1 : -1)];
    if (now < 0 || !next || !next.offsetParent || e.target.closest("input, select, pre, [role=tab]") || isBusy()) return;
    items[now].removeAttribute("aria-current");
    next.setAttribute("aria-current", "true");
    all("#history [data-number]").forEach((one) => { one.disabled = true; });  // until it is shown
    clearTimeout(stepping);  // while a key is held, only the last one is shown
    stepping = setTimeout(() => clicks.show(next), 120);
  };
  const closePanels = (but) => all(".details[open]").filter((one) => one !== but).forEach((one) => {
    if (one.contains(document.activeElement)) $("summary", one).focus();
    one.open = false;
  });
  const listen = () => {
    document.addEventListener("click", (e) => {
      const saves = e.target.closest("a[data-saves]");
      if (saves) saves.dataset.saves.split(",").forEach(save);
      if (e.target.closest("#zoom") && !e.target.closest("button")) $("#zoom").classList.toggle("whole");
      else if (e.target.matches("[data-zoom]")) zoom();
      if (e.target.matches(".crop img")) {  // the crop's middle comes to where one clicks
        const { side, left, top, width, height } = cropNow(), [x, y] = at(e, e.target);
        moveCrop((x * width - left) / side - 0.5, (y * height - top) / side - 0.5);
        soon();
      }
      if (e.target.closest("#cancel")) { wire.trigger("stop"); return; }
      const button = e.target.closest("button");
      if (!button) return;
      if (button.dataset.face) {
        all("[data-face]").forEach((one) => one.setAttribute("aria-pressed", String(one.dataset.face === button.dataset.face)));
        act("face", { face: Number(button.dataset.face) });
      } else if (button.dataset.show) clicks.show(button);
      else if (button.dataset.strength) strength(button.dataset.strength);
      else if (button.dataset.more) begin("more", { more: button.dataset.more });
      else if (clicks[button.dataset.act]) clicks[button.dataset.act](button);
    });
    document.addEventListener("submit", (e) => {
      if (e.target.id === "form") { e.preventDefault(); begin("make"); }
    });
    document.addEventListener("input", (e) => {
      if (e.target.matches(".cut")) cut(e.target.value);
      if (!e.target.closest("#form")) return;
      changed(e.target);
      if (e.target.name === "recipe") act("controls");
      else if (e.target.value === "picture" && !$("[data-file=backdrop]").hasAttribute("data-has")) return;
      else if (e.target.hasAttribute("data-now")) soon({ form: e.target.name === "style" });
    });
    document.addEventListener("change", (e) => {
      if (e.target.dataset.file && e.target.files.length) { send(e.target.files[0], e.target.dataset.file); e.target.value = ""; }
      else if (e.target.matches("[data-compare]")) act("history", { do: "compare", number: e.target.value ? Number(e.target.value) : null });
      else if (e.target.matches("[data-side]")) { view.side = e.target.checked; compare(); }
    });
    document.addEventListener("toggle", (e) => {
      const fold = e.target.dataset && e.target.dataset.fold;
      if (fold && e.target.isConnected) view.open[e.target.open ? "add" : "delete"](fold);
      if (e.target.open && e.target.matches(".details")) closePanels(e.target);
    }, true);
    // A photo may be dropped anywhere; what is dragged from the page itself is none.
    const OWN = "application/x-portrait";
    document.addEventListener("dragstart", (e) => e.dataTransfer.setData(OWN, "1"));
    document.addEventListener("dragover", (e) => {
      e.preventDefault();
      document.documentElement.classList.toggle("over", !e.dataTransfer.types.includes(OWN));
    });
    document.addEventListener("dragleave", (e) => { if (!e.relatedTarget) document.documentElement.classList.remove("over"); });
    document.addEventListener("drop", (e) => {
      e.preventDefault();
      document.documentElement.classList.remove("over");
      const { files, types } = e.dataTransfer;
      if (types.includes(OWN)) return;
      if (files.length > 1) problem($("#photo"), $("#photo input[data-file]").dataset.many.replace("{n}", files.length));
      else send(files[0]);
    });
    document.addEventListener("paste", (e) => {
      const file = e.clipboardData && [...e.clipboardData.files].find((one) => one.type.startsWith("image/"));
      if (file) { e.preventDefault(); send(file); }
    });
    // The handle between before and after, and the area to protect
    let handle = null, grab = null;
    document.addEventListener("pointerdown", (e) => {
      closePanels(e.target.closest(".details"));
      if (e.target.matches("[data-handle]")) {
        handle = e.target.closest(".pair");
        e.target.setPointerCapture(e.pointerId);
        e.preventDefault();
      }
      if (e.target.matches(".crop i")) {
        grab = { from: { x: e.clientX, y: e.clientY }, shift: cropNow().shift };
        e.target.setPointerCapture(e.pointerId);
        e.preventDefault();
      }
      const stage = e.target.closest(".stage.drawing");
      if (stage) { e.preventDefault(); from = at(e, stage); stage.setPointerCapture(e.pointerId); }
    });
    document.addEventListener("pointermove", (e) => {
      if (handle) cut(100 * at(e, handle)[0]);
      if (grab) { clearTimeout(pause); dragCrop(e, grab); }
      const stage = from && e.target.closest(".stage.drawing");
      if (stage) { $(".region", stage).hidden = false; place($(".region", stage), drawn(e, stage)); }
    });
    document.addEventListener("pointercancel", () => { from = null; handle = null; grab = null; });
    document.addEventListener("pointerup", (e) => {
      const stage = from && e.target.closest(".stage.drawing");
      if (stage) drawTo(e, stage);
      if (grab && (e.clientX !== grab.from.x || e.clientY !== grab.from.y)) soon();
      from = null;
      handle = null;
      grab = null;
    });
    document.addEventListener("keydown", (e) => {
      if (e.key === "Escape") closePanels(null);
      if (e.target.dataset && e.target.dataset.axis && ARROWS[e.key]) { e.preventDefault(); pushCrop(ARROWS[e.key]); }
      if (e.key === "Escape" && isBusy() && !$("dialog[open]")) wire.trigger("stop");
      if ($("dialog[open]:not(#zoom)")) return;
      press(e);
      if (["ArrowLeft", "ArrowRight"].includes(e.key) && !e.altKey && !e.ctrlKey && !e.metaKey) stepTo(e);
    });
    addEventListener("beforeunload", (e) => { if (unsaved().length) e.preventDefault(); });
  };

  const connect = (element, trigger, upload, watch) => {
    if (wire === null) listen();
    wire = { trigger, upload };
    watch("value", () => {
      const key = $("[data-session]", element).dataset.session;
      clearInterval(greeting);
      if (memory("session") !== key) { saved.clear(); memory("saved", ""); }
      memory("session", key);
      const look = $("[data-look]", element);
      if (look) look.click();
    });
    const load = String(Math.random());
    const hello = () => wire.trigger("submit", { act: "hello", key: memory("session"), load });
    const greeting = setInterval(hello, 10000);  // one that comes before Gradio listens is not heard
    setTimeout(hello);
  };
  return { part, connect };
})();
