import { GatewayClient } from "../realtime/client.js";

const list = document.getElementById("list");
const latest = JSON.parse(document.getElementById("latest").textContent) || { events: [] };

function show({ data }) {
  const item = document.createElement("li");
  item.textContent = data.title;
  list.prepend(item);
}

latest.events.forEach(show);
const client = new GatewayClient();
client.connect();
client.subscribe(list.dataset.topic, {
  since: latest.position,
  epoch: latest.epoch,
  onMessage: show,
});
