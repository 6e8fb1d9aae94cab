//! Projects of real servers: nginx before an application in Python, PostgreSQL and Redis behind it; and smaller ones in the
//! shapes of Docker's examples.

use fluyt_testkit::host::finish;
use fluyt_testkit::wait::{http_get, until};

use crate::compose::Shop;
use crate::servers::debian_host;

/// Counts visits in Redis, keeps guests in PostgreSQL.
const APP: &str = r#"
import http.server, os, psycopg2, redis, urllib.parse

def database():
    with open("/run/secrets/db-password") as f:
        return psycopg2.connect(host="db", user="app", dbname="app", password=f.read().strip(), connect_timeout=5)

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        url = urllib.parse.urlparse(self.path)
        if url.path == "/health":
            return self.answer("well\n")
        hits = redis.Redis("cache").incr("hits")
        with database() as db, db.cursor() as cursor:
            cursor.execute("create table if not exists guests (name text)")
            name = urllib.parse.parse_qs(url.query).get("name")
            if name:
                cursor.execute("insert into guests values (%s)", (name[0],))
            cursor.execute("select name from guests order by name")
            guests = ",".join(row[0] for row in cursor.fetchall())
        self.answer(f"{os.environ['GREETING']} hits={hits} guests={guests}\n")

    def answer(self, text):
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

print("the application listens", flush=True)
http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
"#;

const DOCKERFILE: &str = "FROM debian:servers AS base
RUN --network=none mkdir /srv/app && useradd --system app
FROM base
COPY --chown=app app.py /srv/app/
USER app
ENV PYTHONUNBUFFERED=1
CMD [\"python3\", \"/srv/app/app.py\"]
";

/// PostgreSQL as its official image starts it: a password from a file, a database for a user.
const DB: &str = r#"#!/bin/bash
set -e
export PATH=$PATH:$(echo /usr/lib/postgresql/*/bin)
as() { setpriv --reuid postgres --regid postgres --clear-groups "$@"; }
chown postgres /var/lib/data
chmod 700 /var/lib/data
if ! test -s /var/lib/data/PG_VERSION; then
    install -o postgres -m 600 "$POSTGRES_PASSWORD_FILE" /tmp/password
    as initdb -D /var/lib/data -A scram-sha-256 --pwfile=/tmp/password -U "$POSTGRES_USER" > /dev/null
    echo "host all all all scram-sha-256" >> /var/lib/data/pg_hba.conf
fi
exec setpriv --reuid postgres --regid postgres --clear-groups postgres -D /var/lib/data -c 'listen_addresses=*'
"#;

const NGINX: &str = "daemon off;
user www-data;
error_log stderr;
pid /run/nginx.pid;
events {}
http {
    access_log /dev/stdout;
    server {
        listen 80;
        location /static/ { root /srv; }
        location / { proxy_pass http://app:8000; }
    }
}
";

const PROJECT: &str = r#"
name: shop
x-quick: &quick
  interval: 200ms
  timeout: 5s
  retries: 100
services:
  web:
    image: debian:servers
    command: [nginx, -c, /etc/shop/nginx.conf]
    configs:
      - {source: nginx, target: /etc/shop/nginx.conf}
    volumes: ["./static:/srv/static:ro"]
    networks: [front]
    ports: ["127.0.0.1::80"]
    depends_on:
      app: {condition: service_healthy, restart: true}
    stop_signal: SIGQUIT
    healthcheck:
      test: [CMD-SHELL, "bash -c 'exec 3<>/dev/tcp/127.0.0.1/80'"]
      <<: *quick
  app:
    build: app
    environment: {GREETING: "${GREETING:-hello}"}
    secrets: [db-password]
    networks: [front, back]
    init: true
    depends_on:
      db: {condition: service_healthy}
      cache: {condition: service_healthy}
    healthcheck:
      test: [CMD, python3, -c, "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=3)"]
      <<: *quick
  db:
    image: debian:servers
    command: [bash, /usr/local/bin/start-db]
    configs:
      - {source: start-db, target: /usr/local/bin/start-db, mode: 0555}
    environment: {POSTGRES_USER: app, POSTGRES_PASSWORD_FILE: /run/secrets/db-password}
    secrets: [db-password]
    shm_size: 128m
    stop_grace_period: 30s
    networks: [back]
    volumes: ["data:/var/lib/data"]
    healthcheck:
      test: [CMD-SHELL, "PGPASSWORD=$$(cat /run/secrets/db-password) psql -h 127.0.0.1 -U app -d postgres -Atc 'select 1'"]
      <<: *quick
    post_start:
      - command: [bash, -c, "for n in $$(seq 300); do PGPASSWORD=$$(cat /run/secrets/db-password) psql -h 127.0.0.1 -U app -d postgres -Atc \"select 1 from pg_database where datname = 'app'\" | grep -q 1 && exit 0; PGPASSWORD=$$(cat /run/secrets/db-password) createdb -h 127.0.0.1 -U app app 2> /dev/null && exit 0; sleep 0.1; done; exit 1"]
  cache:
    image: debian:servers
    command: [redis-server, --bind, 0.0.0.0, --protected-mode, "no", --dir, /data, --appendonly, "yes"]
    networks: [back]
    volumes: ["cache:/data"]
    healthcheck:
      test: [CMD, redis-cli, ping]
      <<: *quick
networks:
  front:
  back: {internal: true}
volumes:
  data:
  cache:
configs:
  nginx: {file: nginx.conf}
  start-db: {file: start-db}
secrets:
  db-password: {file: password.txt}
"#;

/// Runs a command of the project; a slow machine has minutes for it.
#[track_caller]
fn ok(shop: &Shop<'_>, line: &str) -> String {
    let mut command = shop.host.command(shop.words(line));
    let outcome = finish(&mut command, b"", 240);
    assert_eq!(outcome.code, 0, "{line}: {outcome:?}");
    outcome.text().to_owned()
}

#[track_caller]
fn asked(shop: &Shop<'_>, path: &str) -> String {
    let address = ok(shop, "port web 80");
    let answer = until("an answer through all tiers", 60, || {
        http_get(&address, path).filter(|a| a.contains(" 200 ") || a.contains(" 200\r"))
    });
    answer.rsplit("\r\n\r\n").next().unwrap_or_default().trim().to_owned()
}

#[test]
fn a_web_server_an_application_a_database_and_a_cache() {
    let Some(host) = debian_host(true) else { return };
    let shop = Shop::new(&host, PROJECT);
    for (name, text) in [
        ("app/app.py", APP),
        ("app/Dockerfile", DOCKERFILE),
        ("start-db", DB),
        ("nginx.conf", NGINX),
        ("static/about.txt", "about the shop\n"),
        ("password.txt", "open sesame\n"),
    ] {
        shop.beside(name, text);
    }
    ok(&shop, "up -d --wait");
    for service in ["web", "app", "db", "cache"] {
        let health = host.field(&format!("shop-{service}-1"), "{{.State.Health.Status}}");
        assert_eq!(health, "healthy", "{service}");
    }
    assert_eq!(asked(&shop, "/?name=ann"), "hello hits=1 guests=ann");
    assert_eq!(asked(&shop, "/static/about.txt"), "about the shop");
    // nginx is not in the network of the database, the database has no way out.
    assert_ne!(host.run_words(&shop.words("exec -T web getent hosts db")).code, 0);
    assert!(ok(&shop, "exec -T app getent hosts db").contains("db"));
    assert!(ok(&shop, "logs app").contains("app-1  | the application listens"));
    assert_eq!(ok(&shop, "up --dry-run"), "", "what has not changed plans nothing");

    let ids = |names: &[&str]| -> Vec<String> {
        names.iter().map(|n| host.field(&format!("shop-{n}-1"), "{{.Id}}")).collect()
    };
    let (app, others) = (ids(&["app"]), ids(&["web", "db", "cache"]));
    shop.beside(".env", "GREETING=welcome\n");
    ok(&shop, "up -d --wait");
    assert_ne!(ids(&["app"]), app, "the changed service is made anew");
    assert_eq!(ids(&["web", "db", "cache"]), others, "the others are not");
    assert_eq!(asked(&shop, "/?name=bob"), "welcome hits=2 guests=ann,bob");

    // A changed program is built anew, and only its service.
    shop.beside("app/app.py", &APP.replace("hits={hits}", "visits={hits}"));
    ok(&shop, "up -d --wait --build");
    assert_eq!(ids(&["web", "db", "cache"]), others);
    assert_eq!(asked(&shop, "/"), "welcome visits=3 guests=ann,bob");

    ok(&shop, "down");
    assert_eq!(host.ok("ps -aq"), "");
    ok(&shop, "up -d --wait");
    assert_eq!(asked(&shop, "/"), "welcome visits=4 guests=ann,bob", "data outlives containers");
    ok(&shop, "restart -t 20");
    assert_eq!(asked(&shop, "/"), "welcome visits=5 guests=ann,bob");

    ok(&shop, "down -v --rmi local");
    assert_eq!((host.ok("ps -aq"), host.ok("volume ls -q")), (String::new(), String::new()));
    let networks = host.ok_words(&["network", "ls", "--format", "{{.Name}}"]);
    assert!(!networks.contains("shop"), "{networks}");
    assert!(!host.ok("images").contains("shop-app"), "--rmi local takes what was built");
}

/// In the shape of `flask-redis`: one port, a cache, the application's directory mounted over its own.
const COUNTER: &str = r#"
services:
  redis:
    image: debian:servers
    command: [redis-server, --bind, 0.0.0.0, --protected-mode, "no", --dir, /tmp]
    ports: ["127.0.0.1::6379"]
  web:
    build:
      context: .
      target: builder
      dockerfile_inline: |
        FROM debian:servers AS builder
        WORKDIR /code
        COPY app.py .
        CMD ["python3", "-u", "app.py"]
        FROM builder AS dev-envs
        RUN --network=none exit 1
    stop_signal: SIGINT
    ports: ["127.0.0.1::8000"]
    volumes: [".:/code"]
    depends_on: [redis]
"#;

const COUNTER_APP: &str = r#"
import http.server, redis
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        text = f"visits={redis.Redis('redis').incr('hits')}"
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text.encode())
http.server.HTTPServer(("", 8000), Handler).serve_forever()
"#;

/// In the shape of `nginx-wsgi-flask`: replicas behind a proxy that finds them by the service's name.
const REPLICAS: &str = r#"
services:
  proxy:
    image: debian:servers
    command: [nginx, -c, /etc/proxy.conf]
    configs: [{source: proxy, target: /etc/proxy.conf}]
    ports: ["127.0.0.1::80"]
    depends_on: {app: {condition: service_healthy}}
  app:
    image: debian:servers
    init: true
    command: [python3, -c, "import http.server, socket; H = type('H', (http.server.BaseHTTPRequestHandler,), {'do_GET': lambda s: (s.send_response(200), s.end_headers(), s.wfile.write(socket.gethostname().encode()))}); http.server.HTTPServer(('', 8000), H).serve_forever()"]
    deploy: {replicas: 3}
    healthcheck:
      test: [CMD-SHELL, "bash -c 'exec 3<>/dev/tcp/127.0.0.1/8000'"]
      interval: 200ms
      retries: 100
configs:
  proxy:
    content: |
      daemon off;
      pid /run/nginx.pid;
      error_log stderr;
      events {}
      http {
        upstream app { server app:8000; }
        server { listen 80; location / { proxy_pass http://app; } }
      }
"#;

#[test]
fn shapes_of_dockers_examples() {
    let Some(host) = debian_host(true) else { return };
    let shop = Shop::new(&host, COUNTER);
    shop.beside("app.py", COUNTER_APP);
    ok(&shop, "up -d");
    let address = ok(&shop, "port web 8000");
    let visits = || http_get(&address, "/").filter(|a| a.contains("visits=")).map(|a| a.contains("visits=1"));
    assert!(until("the counter", 60, visits));
    assert!(!until("the counter again", 60, visits));
    ok(&shop, "stop");
    assert_eq!(ok(&shop, "ps --services"), "");
    ok(&shop, "start");
    ok(&shop, "down -v --rmi local --timeout 5");
    assert!(!host.ok("images").contains("shop-web"));

    shop.write(REPLICAS);
    ok(&shop, "up -d --wait");
    let address = ok(&shop, "port proxy 80");
    let mut names = std::collections::BTreeSet::new();
    until("all three replicas to answer", 60, || {
        let answer = http_get(&address, "/").filter(|a| a.contains(" 200 "))?;
        names.insert(answer.rsplit("\r\n\r\n").next().unwrap_or_default().to_owned());
        (names.len() == 3).then_some(())
    });
    ok(&shop, "up -d --scale app=1 --no-recreate");
    assert_eq!(ok(&shop, "ps -q app").lines().count(), 1);
    ok(&shop, "down");
}
