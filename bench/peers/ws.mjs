// npm `ws` as its README has it: one process, no compression, a loop over the clients.
import { createServer } from "node:http";
import { WebSocket, WebSocketServer } from "ws";

const sockets = new WebSocketServer({ noServer: true, perMessageDeflate: false });
const subscribers = new Set();

function broadcast(data, binary) {
  for (const subscriber of subscribers) {
    if (subscriber.readyState === WebSocket.OPEN) subscriber.send(data, { binary });
  }
}

function welcome(socket, path) {
  socket.on("error", () => socket.terminate());
  if (path === "/echo") {
    socket.on("message", (data, binary) => socket.send(data, { binary }));
  } else if (path === "/publish") {
    socket.on("message", broadcast);
  } else {
    subscribers.add(socket);
    socket.on("close", () => subscribers.delete(socket));
  }
}

const server = createServer((_, response) => response.writeHead(426).end());
server.on("upgrade", (request, stream, head) => {
  sockets.handleUpgrade(request, stream, head, (socket) => welcome(socket, request.url));
});
server.listen(Number(process.argv[2]), "127.0.0.1");

// The benchmark holds our stdin: when it dies, however it dies, we end too.
process.stdin.on("end", () => process.exit(0)).resume();
