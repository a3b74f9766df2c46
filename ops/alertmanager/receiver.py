"""Prints the notifications that Alertmanager sends: `receiver.py [PORT]`. A place to look at until there is a real one."""

import http.server
import json
import sys


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        for alert in body["alerts"]:
            said = alert["annotations"]
            head = " | ".join((alert["status"].upper(), alert["labels"]["alertname"], said["summary"]))
            # One write, or notifications that come at once end up within each other.
            sys.stdout.write(f"{head}\n    {said['description']}\n    {said['runbook_url']}\n")
            sys.stdout.flush()
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("", int(sys.argv[1]) if sys.argv[1:] else 9095), Receiver).serve_forever()
