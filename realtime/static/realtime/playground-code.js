/**
 * A frame as code that sends it: connect, send, print what comes.
 */

/**
 * @param {"javascript" | "python" | "wscat" | "json"} language
 * @param {string} text the frame as it stands in the editor
 * @param {string} url of the gateway, ws:// or wss://
 * @returns {string}
 */
export function codeFor(language, text, url) {
  const frame = oneLine(text);
  const opening = isConnect(frame);
  switch (language) {
    case "javascript":
      return javascript(frame, opening, url);
    case "python":
      return python(frame, opening, url);
    case "wscat":
      return wscat(frame, opening, url);
    case "json":
      return text;
  }
}

const TOKEN_FRAME = '{"type": "connect", "token": "TOKEN"}';

/** @param {string} frame @param {boolean} opening @param {string} url */
function javascript(frame, opening, url) {
  const send = opening ? [] : [`  if (frame.type === "ready") socket.send(${JSON.stringify(frame)});`];
  const first = opening ? frame : '{"type":"connect"}';
  return [
    "// On a page of this site the login is enough; elsewhere, put a token into 'connect'.",
    `const socket = new WebSocket(${JSON.stringify(url)});`,
    `socket.onopen = () => socket.send(${JSON.stringify(first)});`,
    "socket.onmessage = ({ data }) => {",
    "  const frame = JSON.parse(data);",
    "  console.log(frame);",
    ...send,
    "};",
    "socket.onclose = ({ code, reason }) => console.log(code, reason);",
  ].join("\n");
}

/** @param {string} frame @param {boolean} opening @param {string} url */
function python(frame, opening, url) {
  return [
    "# pip install websockets; the token: manage.py token NAME",
    "from websockets.sync.client import connect",
    "",
    `with connect(${pythonText(url)}) as socket:`,
    `    socket.send(${pythonText(opening ? frame : TOKEN_FRAME)})`,
    ...(opening ? [] : ["    print(socket.recv())  # ready", `    socket.send(${pythonText(frame)})`]),
    "    for frame in socket:",
    "        print(frame)",
  ].join("\n");
}

/** @param {string} frame @param {boolean} opening @param {string} url */
function wscat(frame, opening, url) {
  // One -x a frame; --wait keeps the socket open for the answers.
  const frames = opening ? [frame] : [TOKEN_FRAME, frame];
  const options = frames.map((one) => ` \\\n  -x ${shellText(one)}`).join("");
  return `# npm install -g wscat; the token: manage.py token NAME\nwscat -c ${shellText(url)}${options} \\\n  --wait 5`;
}

/** @param {string} text */
function oneLine(text) {
  try {
    return JSON.stringify(JSON.parse(text));
  } catch {
    return text.trim();
  }
}

/** @param {string} frame */
function isConnect(frame) {
  return /"type":"(connect|setup)"/.test(frame);
}

/** @param {string} text */
function shellText(text) {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

/** @param {string} text */
function pythonText(text) {
  const escaped = text.replaceAll("\\", "\\\\").replaceAll("'", "\\'").replaceAll("\n", "\\n");
  return `'${escaped}'`;
}
