// Where the board finds its queue. Both may stay empty when the dtqkit server itself serves this page; on a static host
// give the server's address, such as "https://queue.example.com/api", and, where it differs, the WebSocket's, such as
// "wss://queue.example.com/ws". The server must then list this page's origin in CORS_ORIGINS.
import { mountPage } from "./page.js";

mountPage({ apiBase: "", wsUrl: "" });
