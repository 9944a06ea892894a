"use strict";
// Every head in its own view, all drawn by one renderer into one canvas that lies over the part of the page in sight.
(() => {
  const PAGE = 24, FIELD = 18, MOST_PIXELS = 16e6;
  const data = JSON.parse(document.getElementById("data").textContent);
  const canvas = document.getElementById("canvas");
  const find = (selector, root = document) => [...root.querySelectorAll(selector)];

  let renderer;
  try {
    renderer = new THREE.WebGLRenderer({ canvas, alpha: true, antialias: false });
  } catch {
    return; // the fixed pictures stay
  }
  document.documentElement.classList.add("live");
  canvas.addEventListener("webglcontextlost", () => document.documentElement.classList.remove("live"));
  canvas.addEventListener("webglcontextrestored", () => { document.documentElement.classList.add("live"); redraw(); });
  renderer.setScissorTest(true);
  renderer.setClearColor(0, 0);

  // Arrays: positions are whole steps; a head is the fit plus its own difference from it.
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;
  const fit = new Int16Array(bytes(data.fit));
  const differences = new Int16Array(bytes(data.differences));
  const corners = new (data.wide ? Uint32Array : Uint16Array)(bytes(data.faces));
  const index = new THREE.BufferAttribute(corners, 1);
  const uv = new THREE.BufferAttribute(new Uint16Array(bytes(data.uv)), 2, true);
  const spread = new THREE.BufferAttribute(new Uint8Array(bytes(data.spread)), 3, true);

  const positions = (head) => {
    const own = Int16Array.from(fit);
    if (head !== "fit") {
      const start = data.heads.indexOf(Number(head)) * own.length;
      for (let i = 0; i < own.length; i++) own[i] += differences[start + i];
    }
    return own;
  };

  const normals = (at) => {
    const sum = new Float32Array(at.length);
    for (let f = 0; f < corners.length; f += 3) {
      const [a, b, c] = [3 * corners[f], 3 * corners[f + 1], 3 * corners[f + 2]];
      const ux = at[b] - at[a], uy = at[b + 1] - at[a + 1], uz = at[b + 2] - at[a + 2];
      const vx = at[c] - at[a], vy = at[c + 1] - at[a + 1], vz = at[c + 2] - at[a + 2];
      const x = uy * vz - uz * vy, y = uz * vx - ux * vz, z = ux * vy - uy * vx;
      for (const corner of [a, b, c]) { sum[corner] += x; sum[corner + 1] += y; sum[corner + 2] += z; }
    }
    for (let i = 0; i < sum.length; i += 3) {
      const length = Math.hypot(sum[i], sum[i + 1], sum[i + 2]) || 1;
      for (let k = 0; k < 3; k++) sum[i + k] /= length;
    }
    return sum;
  };

  const kept = new Map();
  const shape = (head) => {
    if (!kept.has(head)) {
      const at = positions(head);
      kept.set(head, { at: new THREE.BufferAttribute(at, 3), normal: new THREE.BufferAttribute(normals(at), 3) });
    }
    return kept.get(head);
  };

  const skins = new Map();
  const skin = (head) => {
    const source = head === "fit" ? data.skin : data.skins[data.heads.indexOf(Number(head))];
    if (!source) return null;
    if (!skins.has(head)) {
      const picture = new Image(), texture = new THREE.Texture(picture);
      texture.colorSpace = THREE.NoColorSpace;
      texture.anisotropy = renderer.capabilities.getMaxAnisotropy();
      picture.onload = () => { texture.needsUpdate = true; redraw(); };
      picture.src = source;
      skins.set(head, texture);
    }
    return skins.get(head);
  };

  const vertexShader = `
    attribute vec3 other, otherNormal, spread;
    uniform float blend, pull;
    varying vec3 direction, tint;
    varying vec2 place;
    void main() {
      direction = normalMatrix * mix(normal, otherNormal, blend);
      place = uv;
      tint = spread;
      gl_Position = projectionMatrix * modelViewMatrix * vec4(mix(position, other, blend), 1.0);
      gl_Position.z -= pull * gl_Position.w;
    }`;
  const fragmentShader = `
    uniform sampler2D skin, otherSkin;
    uniform int surface;
    uniform float blend, facing, relief, back, lines, lamp[9];
    uniform vec3 clay;
    varying vec3 direction, tint;
    varying vec2 place;
    void main() {
      if (lines > 0.0) { gl_FragColor = vec4(vec3(0.1), 1.0) * lines; return; }
      vec3 n = normalize(direction);
      float light = lamp[0] + lamp[1] * n.x + lamp[2] * n.y + lamp[3] * n.z + lamp[4] * n.x * n.y + lamp[5] * n.y * n.z
        + lamp[6] * n.x * n.z + lamp[7] * (3.0 * n.z * n.z - 1.0) + lamp[8] * (n.x * n.x - n.y * n.y);
      light = max(light, 0.0);
      vec3 colour = surface == 2 ? tint : clay;
      if (surface == 0) {
        colour = mix(texture2D(skin, place).rgb, texture2D(otherSkin, place).rgb, blend);
        light = pow(light / facing, relief);
      }
      colour = pow(colour, vec3(2.2)) * light * (gl_FrontFacing ? 1.0 : back);
      gl_FragColor = vec4(pow(colour, vec3(1.0 / 2.2)), 1.0);
    }`;

  const material = (wireframe) => new THREE.ShaderMaterial({
    vertexShader, fragmentShader, wireframe, side: THREE.DoubleSide, transparent: wireframe, premultipliedAlpha: true,
    uniforms: {
      blend: { value: 0 }, pull: { value: wireframe ? 2e-4 : 0 }, lines: { value: wireframe ? 0.35 : 0 },
      skin: { value: null }, otherSkin: { value: null }, surface: { value: 1 }, lamp: { value: data.lamp },
      facing: { value: data.facing }, relief: { value: data.relief }, back: { value: data.back },
      clay: { value: new THREE.Vector3(...data.clay.map((value) => value / 255)) },
    },
  });

  // Views: an element, the head or two in it, and its own camera.
  const front = () => ({ yaw: 0, pitch: 0, zoom: 1 });
  const shared = front();
  const state = { surface: data.skin ? "skin" : "clay", wire: false, linked: true, page: 0 };

  class View {
    constructor(element) {
      this.element = element;
      this.own = front();
      this.blend = 0;
      this.geometry = new THREE.BufferGeometry();
      this.geometry.setIndex(index);
      this.geometry.setAttribute("uv", uv);
      this.geometry.setAttribute("spread", spread);
      this.meshes = [false, true].map((wire) => new THREE.Mesh(this.geometry, material(wire)));
      this.scene = new THREE.Scene();
      this.scene.add(...this.meshes);
      for (const mesh of this.meshes) { mesh.scale.setScalar(data.step); mesh.frustumCulled = false; }
      this.listen();
    }
    get camera() { return state.linked ? shared : this.own; }
    show(first, second = first) {
      [this.first, this.second] = [first, second];
      for (const [name, values] of [["position", shape(first).at], ["normal", shape(first).normal],
        ["other", shape(second).at], ["otherNormal", shape(second).normal]]) this.geometry.setAttribute(name, values);
      this.shown = true;
    }
    paint() {
      const wish = this.element.dataset.surface ?? state.surface;
      const [one, two] = wish === "skin" ? [skin(this.first), skin(this.second)] : [null, null];
      const ready = one?.image.complete && two?.image.complete;
      const use = this.meshes[0].material.uniforms;
      use.surface.value = wish === "uncertainty" ? 2 : ready ? 0 : 1;
      [use.skin.value, use.otherSkin.value] = ready ? [one, two] : [null, null];
      for (const mesh of this.meshes) mesh.material.uniforms.blend.value = this.blend;
      this.meshes[1].visible = state.wire;
    }
    turn(yaw, pitch, zoom = 1) {
      const camera = this.camera;
      camera.yaw += yaw;
      camera.pitch = Math.min(Math.max(camera.pitch + pitch, -85), 85);
      camera.zoom = Math.min(Math.max(camera.zoom * zoom, 0.6), 6);
      redraw();
    }
    listen() {
      const element = this.element;
      let last = null;
      element.addEventListener("pointerdown", (event) => {
        if (event.button) return;
        last = [event.clientX, event.clientY];
        element.setPointerCapture(event.pointerId);
      });
      element.addEventListener("pointermove", (event) => {
        if (!last) return;
        const now = [event.clientX, event.clientY];
        this.turn(-0.5 * (now[0] - last[0]), 0.5 * (now[1] - last[1]));
        last = now;
      });
      for (const end of ["pointerup", "pointercancel"]) element.addEventListener(end, () => { last = null; });
      element.addEventListener("wheel", (event) => {
        if (!event.ctrlKey && !event.metaKey) return; // the page scrolls
        event.preventDefault();
        this.turn(0, 0, Math.exp(-0.002 * event.deltaY));
      }, { passive: false });
      const keys = {
        ArrowLeft: [-10, 0], ArrowRight: [10, 0], ArrowUp: [0, 10], ArrowDown: [0, -10],
        "+": [0, 0, 1.15], "=": [0, 0, 1.15], "-": [0, 0, 1 / 1.15],
      };
      element.addEventListener("keydown", (event) => {
        if (event.key === "0") Object.assign(this.camera, front());
        if (event.key !== "0" && !keys[event.key]) return;
        event.preventDefault();
        this.turn(...(keys[event.key] ?? [0, 0]));
      });
    }
  }

  const views = find(".view").map((element) => new View(element));
  const viewOf = (id) => views.find((view) => view.element.id === id);

  // Drawing: only what is in sight, only when something changed.
  // The depths are close together: lips and eyelids lie a hair before what is behind them.
  const distance = data.radius / Math.sin((FIELD / 2) * Math.PI / 180);
  const camera = new THREE.PerspectiveCamera(FIELD, 1, distance - 2 * data.radius, distance + 2 * data.radius);

  const draw = () => {
    waiting = false;
    const width = document.documentElement.clientWidth, height = window.innerHeight;
    // Twice as fine as the page instead of the browser's smoothing, which lets edge-on triangles shine through others.
    const pixels = Math.max(Math.min(2, Math.sqrt(MOST_PIXELS / (width * height))), 1);
    if (canvas.width !== Math.floor(width * pixels) || canvas.height !== Math.floor(height * pixels)) {
      renderer.setPixelRatio(pixels);
      renderer.setSize(width, height);
    }
    const top = Math.max(Math.min(window.scrollY, document.documentElement.scrollHeight - height), 0);
    const left = window.scrollX;
    canvas.style.transform = `translate(${left}px, ${top}px)`;
    const offset = window.scrollY - top;
    renderer.setScissor(0, 0, width, height);
    renderer.clear();
    for (const view of views) {
      const box = view.element.getBoundingClientRect();
      if (!box.width || box.bottom < 0 || box.top > height || box.right < 0 || box.left > width) continue;
      if (!view.shown) view.show(view.element.dataset.head);
      view.paint();
      const { yaw, pitch, zoom } = view.camera;
      const [a, b] = [yaw * Math.PI / 180, pitch * Math.PI / 180];
      camera.aspect = box.width / box.height;
      camera.zoom = zoom * Math.min(1, camera.aspect / data.aspect);
      camera.position.set(Math.sin(a) * Math.cos(b), Math.sin(b), Math.cos(a) * Math.cos(b)).multiplyScalar(distance);
      camera.lookAt(0, 0, 0);
      camera.updateProjectionMatrix();
      const corner = [box.left, height - box.bottom - offset, box.width, box.height];
      renderer.setViewport(...corner);
      renderer.setScissor(...corner);
      renderer.render(view.scene, camera);
      Object.assign(view.element.dataset, { yaw: yaw.toFixed(1), pitch: pitch.toFixed(1), zoom: zoom.toFixed(2) });
    }
    document.documentElement.dataset.drawn = "yes";
  };
  let waiting = false;
  const redraw = () => { if (!waiting) { waiting = true; requestAnimationFrame(draw); } };
  renderer.autoClear = true;
  for (const event of ["scroll", "resize"]) window.addEventListener(event, redraw, { passive: true });
  new ResizeObserver(redraw).observe(document.body);

  // Controls.
  for (const input of find("input[name=surface]")) {
    input.checked = input.value === state.surface; // a browser may remember another one
    input.addEventListener("change", () => { state.surface = input.value; redraw(); });
  }
  for (const name of ["wire", "linked"]) {
    const box = document.getElementById(name);
    box.checked = state[name];
    box.addEventListener("change", () => {
      state[name] = box.checked;
      if (!state.linked) for (const view of views) if (name === "linked") Object.assign(view.own, shared);
      redraw();
    });
  }
  for (const button of find("button[data-yaw]")) button.addEventListener("click", () => {
    const turned = { yaw: Number(button.dataset.yaw), pitch: 0 };
    for (const at of [shared, ...views.map((view) => view.own)]) Object.assign(at, turned);
    redraw();
  });

  const items = find("#heads > li"), pages = Math.ceil(items.length / PAGE);
  const turnTo = (page) => {
    state.page = Math.min(Math.max(page, 0), pages - 1);
    const first = PAGE * state.page;
    items.forEach((item, number) => { item.hidden = number < first || number >= first + PAGE; });
    document.getElementById("page").textContent = `${first + 1} to ${Math.min(first + PAGE, items.length)} of ${items.length}`;
    document.getElementById("back").disabled = state.page === 0;
    document.getElementById("on").disabled = state.page === pages - 1;
    redraw();
  };
  document.getElementById("pages").hidden = pages < 2;
  document.getElementById("back").addEventListener("click", () => turnTo(state.page - 1));
  document.getElementById("on").addEventListener("click", () => turnTo(state.page + 1));
  turnTo(0);

  const between = viewOf("view-between");
  if (between) {
    const [a, b] = ["a", "b"].map((id) => document.getElementById(id));
    const blend = document.getElementById("blend"), share = document.getElementById("share");
    const compare = () => {
      viewOf("view-a").show(a.value);
      viewOf("view-b").show(b.value);
      between.show(a.value, b.value);
      between.blend = Number(blend.value);
      share.textContent = `${Math.round(100 * between.blend)} %`;
      for (const button of find("[data-pick]")) {
        const chosen = button.dataset.pick === "a" ? a : b;
        button.setAttribute("aria-pressed", String(button.closest("li").dataset.index === chosen.value));
      }
      redraw();
    };
    for (const button of find("[data-pick]")) button.addEventListener("click", () => {
      (button.dataset.pick === "a" ? a : b).value = button.closest("li").dataset.index;
      compare();
    });
    for (const control of [a, b]) control.addEventListener("change", compare);
    blend.addEventListener("input", compare);
    compare();
  }
})();
