// npm `socket.io` with its defaults, except that there is only one transport: `websocket` or `polling`.
import { createServer } from "node:http";
import { Server } from "socket.io";

const server = createServer();
const io = new Server(server, { transports: [process.argv[3]], serveClient: false });

io.on("connection", (socket) => {
  socket.on("echo", (data) => socket.emit("echo", data));
});

// The publisher has a namespace of its own, so that `io.emit` reaches the subscribers and no one else.
io.of("/publish").on("connection", (socket) => {
  socket.on("publish", (data) => io.emit("message", data));
});

server.listen(Number(process.argv[2]), "127.0.0.1");

// The benchmark holds our stdin: when it dies, however it dies, we end too.
process.stdin.on("end", () => process.exit(0)).resume();
