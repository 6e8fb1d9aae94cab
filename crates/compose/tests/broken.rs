//! Broken files, each with what is said about it: line, column, message, hint, and the line itself.

use std::path::{Path, PathBuf};

use fluyt_compose::load::Environment;
use fluyt_compose::{Options, Source, load};

struct One(&'static str);

impl Source for One {
    fn read(&self, path: &Path) -> std::io::Result<String> {
        if self.is_file(path) { Ok(self.0.to_owned()) } else { Err(std::io::ErrorKind::NotFound.into()) }
    }

    fn is_file(&self, path: &Path) -> bool {
        path == Path::new("/p/compose.yaml")
    }

    fn is_directory(&self, _: &Path) -> bool {
        false
    }
}

/// What it is, the file, line, column, message, hint.
type Case = (&'static str, &'static str, u32, u32, &'static str, &'static str);

#[rustfmt::skip]
const CASES: &[Case] = &[
    ("tab", "services:\n\tweb:\n    image: x\n", 2, 2, "not valid YAML: tabs disallowed within this context (block indentation)", "indent with spaces: YAML does not take tabs"),
    ("unclosed quote", "services:\n  web:\n    image: \"x\n", 3, 12, "not valid YAML: while scanning a quoted scalar, found unexpected end of stream", "is a quote, a bracket or a brace not closed?"),
    ("unclosed bracket", "services:\n  web:\n    image: x\n    ports: [80, 81\n", 5, 1, "not valid YAML: while parsing a flow sequence, expected ',' or ']'", "is a quote, a bracket or a brace not closed?"),
    ("colon in plain text", "services:\n  web:\n    image: x\n    command: echo: this: that\n", 4, 18, "not valid YAML: mapping values are not allowed in this context", "a text with \": \" in it must be quoted, and keys of one mapping stand in one column"),
    ("duplicate key", "services:\n  web:\n    image: x\n  web:\n    image: y\n", 4, 3, "the key \"web\" is here twice: it was given in line 2 before", "remove one of them, or join what they say"),
    ("unknown alias", "services:\n  web: *base\n", 2, 8, "not valid YAML: while parsing node, found unknown anchor", "an alias *name needs an anchor &name above it in the same document"),
    ("bad indentation", "services:\n  web:\n    image: x\n   ports: [80]\n", 4, 4, "not valid YAML: while parsing a block mapping, did not find expected key", "keys of one mapping and items of one list stand in one column"),
    ("merge of a text", "services:\n  web:\n    <<: base\n    image: x\n", 3, 9, "<< takes a mapping or a list of mappings, not a string", "write `<<: *name`, where &name is the anchor of a mapping"),
    ("unknown tag", "services:\n  web:\n    image: x\n    ports: !replace [80]\n", 4, 12, "unknown tag !replace", "Compose files know the tags !reset and !override"),
    ("a list at the top", "- services\n", 1, 1, "a Compose file must be a mapping, not a list", "its first key is usually services:"),
    ("a text at the top", "services\n", 1, 1, "a Compose file must be a mapping, not a string", "its first key is usually services:"),
    ("key is a list", "services:\n  [a, b]: x\n", 2, 3, "a key must be a text", "quote a text that begins with [ or {"),
    ("misspelt image", "services:\n  web:\n    imagee: nginx\n", 3, 5, "services.web has no attribute \"imagee\"", "did you mean image?"),
    ("hyphen for underscore", "services:\n  web:\n    image: x\n    depends-on: [db]\n  db:\n    image: x\n", 4, 5, "services.web has no attribute \"depends-on\"", "did you mean depends_on?"),
    ("singular port", "services:\n  web:\n    image: x\n    port: [80]\n", 4, 5, "services.web has no attribute \"port\"", "did you mean ports?"),
    ("unknown at the top", "service:\n  web:\n    image: x\n", 1, 1, "a Compose file has no attribute \"service\"", "did you mean services?"),
    ("service at the top", "services: {}\nweb:\n  image: x\n", 2, 1, "a Compose file has no attribute \"web\"", "services stand under the key services"),
    ("unknown in build", "services:\n  web:\n    build:\n      contxt: .\n", 4, 7, "services.web.build has no attribute \"contxt\"", "did you mean context?"),
    ("unknown in healthcheck", "services:\n  web:\n    image: x\n    healthcheck:\n      intervall: 1s\n", 5, 7, "services.web.healthcheck has no attribute \"intervall\"", "did you mean interval?"),
    ("unknown in deploy", "services:\n  web:\n    image: x\n    deploy:\n      replica: 2\n", 5, 7, "services.web.deploy has no attribute \"replica\"", "did you mean replicas?"),
    ("unknown in a volume", "services:\n  web:\n    image: x\n    volumes:\n      - type: bind\n        sorce: .\n        target: /x\n", 6, 9, "services.web.volumes[0] has no attribute \"sorce\"", "did you mean source?"),
    ("unknown in a network", "services:\n  web:\n    image: x\nnetworks:\n  n:\n    drivers: bridge\n", 6, 5, "networks.n has no attribute \"drivers\"", "did you mean driver?"),
    ("unknown in logging", "services:\n  web:\n    image: x\n    logging:\n      option: {a: b}\n", 5, 7, "services.web.logging has no attribute \"option\"", "did you mean options?"),
    ("unknown in depends_on", "services:\n  web:\n    image: x\n    depends_on:\n      db: {conditions: service_healthy}\n  db: {image: x}\n", 5, 12, "services.web.depends_on.db has no attribute \"conditions\"", "did you mean condition?"),
    ("number for a text", "services:\n  web:\n    image: x\n    hostname: 12\n", 4, 15, "services.web.hostname must be a text, not a number (12)", "quote it: \"12\""),
    ("boolean for restart", "services:\n  web:\n    image: x\n    restart: false\n", 4, 14, "services.web.restart must be a text, not a boolean (false)", "quote it: \"no\" is a text, false is a boolean to YAML"),
    ("text for a list", "services:\n  web:\n    image: x\n    ports: \"80:80\"\n", 4, 12, "services.web.ports must be a list, not \"80:80\"", "write it as a list: [\"80:80\"]"),
    ("number for a list", "services:\n  web:\n    image: x\n    ports: 80\n", 4, 12, "services.web.ports must be a list, not a number (80)", "write it as a list, each item behind a -"),
    ("mapping for a list", "services:\n  web:\n    image: x\n    volumes:\n      data: /data\n", 5, 7, "services.web.volumes must be a list, not a mapping", "write each item behind a -"),
    ("list for a mapping", "services:\n  - image: x\n", 2, 3, "services must be a mapping, not a list", "write name: value in each line, without the -"),
    ("nothing for a list", "services:\n  web:\n    image: x\n    ports:\n", 4, 10, "services.web.ports must be a list, not nothing", "give it a value or remove ports"),
    ("nothing for environment", "services:\n  web:\n    image: x\n    environment:\n", 4, 16, "services.web.environment must be a mapping or a list of key=value, not nothing", "give it a value or remove environment"),
    ("colon in an environment list", "services:\n  web:\n    image: x\n    environment:\n      - A: b\n", 5, 9, "services.web.environment[0] must be a text like KEY=value, not a mapping", "write `- KEY=value`, or make the whole list a mapping"),
    ("a list in environment", "services:\n  web:\n    image: x\n    environment:\n      A: [b]\n", 5, 10, "services.web.environment.A must be a text, a number or a boolean, not a list", "a variable or label has one value: write it as one text"),
    ("text for a boolean", "services:\n  web:\n    image: x\n    privileged: maybe\n", 4, 17, "services.web.privileged must be true or false, not \"maybe\"", "write true or false"),
    ("text for a number", "services:\n  web:\n    image: x\n    cpus: two\n", 4, 11, "services.web.cpus must be a number, not \"two\"", "write a plain number"),
    ("negative scale", "services:\n  web:\n    image: x\n    scale: -1\n", 4, 12, "services.web.scale must be a whole number that is not negative, not a number (-1)", "write a plain number"),
    ("oom_score_adj too large", "services:\n  web:\n    image: x\n    oom_score_adj: 2000\n", 4, 20, "services.web.oom_score_adj must be a whole number from -1000 to 1000, not a number (2000)", "write a plain number"),
    ("words that are numbers", "services:\n  web:\n    image: x\n    command: [sleep, 10]\n", 4, 22, "services.web.command[1] must be a text, not a number (10)", "quote it: \"10\""),
    ("command with an open quote", "services:\n  web:\n    image: x\n    command: sh -c 'echo\n", 4, 14, "services.web.command must close its quotes, not \"sh -c 'echo\"", "close the quote, or write the command as a list of words"),
    ("duration without a unit", "services:\n  web:\n    image: x\n    stop_grace_period: 10\n", 4, 24, "services.web.stop_grace_period must be a duration such as 1m30s (units: ns, us, ms, s, m, h, d, w), not a number (10)", "write 10s for 10 seconds"),
    ("duration with a wrong unit", "services:\n  web:\n    image: x\n    healthcheck: {interval: 10sec}\n", 4, 29, "services.web.healthcheck.interval must be a duration such as 1m30s (units: ns, us, ms, s, m, h, d, w), not \"10sec\"", "write it as 10s, 1m30s or 1h"),
    ("bytes with a wrong unit", "services:\n  web:\n    image: x\n    mem_limit: 10q\n", 4, 16, "services.web.mem_limit must be a number of bytes such as 512m or 2g, not \"10q\"", "write it as 512m or 2g"),
    ("unknown restart", "services:\n  web:\n    image: x\n    restart: allways\n", 4, 14, "services.web.restart must be one of no, always, on-failure, on-failure:N, unless-stopped, not \"allways\"", "did you mean always?"),
    ("unknown pull policy", "services:\n  web:\n    image: x\n    pull_policy: alwys\n", 4, 18, "services.web.pull_policy must be one of always, never, build, if_not_present, missing, refresh, daily, weekly or every_DURATION, not \"alwys\"", "did you mean always?"),
    ("unknown condition", "services:\n  web:\n    image: x\n    depends_on:\n      db: {condition: service_health}\n  db: {image: x}\n", 5, 23, "services.web.depends_on.db.condition must be one of service_started, service_healthy, service_completed_successfully, not \"service_health\"", "did you mean service_healthy?"),
    ("unknown volume type", "services:\n  web:\n    image: x\n    volumes:\n      - {type: binds, source: ., target: /x}\n", 5, 16, "services.web.volumes[0].type must be one of bind, volume, tmpfs, cluster, npipe, image, not \"binds\"", "did you mean bind?"),
    ("unknown deploy mode", "services:\n  web:\n    image: x\n    deploy: {mode: globl}\n", 4, 20, "services.web.deploy.mode must be one of replicated, global, replicated-job, global-job, not \"globl\"", "did you mean global?"),
    ("bad container name", "services:\n  web:\n    image: x\n    container_name: my web\n", 4, 21, "services.web.container_name must begin with a letter or digit and go on with letters, digits, _ . or -, not \"my web\"", "choose another, or leave it out"),
    ("bad service name", "services:\n  my web:\n    image: x\n", 2, 3, "\"my web\" cannot be a name in services", "names are made of letters, digits, points, _ and -"),
    ("a mapping in depends_on's list", "services:\n  web:\n    image: x\n    depends_on:\n      - db: {condition: service_healthy}\n  db: {image: x}\n", 5, 9, "services.web.depends_on[0] must be a name, not a mapping", "a list has names only; to say more about them write a mapping, without the -"),
    ("port out of range", "services:\n  web:\n    image: x\n    ports: [\"80:99999\"]\n", 4, 13, "services.web.ports[0] must end in a port from 1 to 65535 or a range of them, not \"80:99999\"", "write TARGET, PUBLISHED:TARGET or ADDRESS:PUBLISHED:TARGET, each with an optional /tcp or /udp"),
    ("port without a number", "services:\n  web:\n    image: x\n    ports: [\"http:80\"]\n", 4, 13, "services.web.ports[0] must publish a port from 0 to 65535 or a range of them, not \"http:80\"", "write TARGET, PUBLISHED:TARGET or ADDRESS:PUBLISHED:TARGET, each with an optional /tcp or /udp"),
    ("unknown protocol", "services:\n  web:\n    image: x\n    ports: [\"80:80/icmp\"]\n", 4, 13, "services.web.ports[0] must have one of the protocols tcp, udp, sctp, not \"80:80/icmp\"", "write TARGET, PUBLISHED:TARGET or ADDRESS:PUBLISHED:TARGET, each with an optional /tcp or /udp"),
    ("ranges of different lengths", "services:\n  web:\n    image: x\n    ports: [\"80-82:80-81\"]\n", 4, 13, "services.web.ports[0] must have ranges of the same length on both sides, not \"80-82:80-81\"", "write TARGET, PUBLISHED:TARGET or ADDRESS:PUBLISHED:TARGET, each with an optional /tcp or /udp"),
    ("volume with an empty part", "services:\n  web:\n    image: x\n    volumes: [\":/data\"]\n", 4, 15, "services.web.volumes[0] must have no empty part between colons, not \":/data\"", "write SOURCE:TARGET or SOURCE:TARGET:ro, or use the long form"),
    ("volume with too many colons", "services:\n  web:\n    image: x\n    volumes: [\"./a:/b:ro:z\"]\n", 4, 15, "services.web.volumes[0] has too many colons, not \"./a:/b:ro:z\"", "write SOURCE:TARGET or SOURCE:TARGET:ro, or use the long form"),
    ("device with too many colons", "services:\n  web:\n    image: x\n    devices: [\"/dev/a:/dev/b:rwm:x\"]\n", 4, 15, "services.web.devices[0] must be SOURCE[:TARGET[:PERMISSIONS]], not \"/dev/a:/dev/b:rwm:x\"", "use the long form: source, target, permissions"),
    ("host without an address", "services:\n  web:\n    image: x\n    extra_hosts: [\"db\"]\n", 4, 19, "services.web.extra_hosts[0] must be HOST=ADDRESS, not \"db\"", "the address is missing"),
    ("bad address of a port", "services:\n  web:\n    image: x\n    ports: [{target: 80, host_ip: here}]\n", 4, 35, "services.web.ports[0].host_ip must be an IP address, not \"here\"", "choose another, or leave it out"),
    ("a label file that is a number", "services:\n  web:\n    image: x\n    label_file: 3\n", 4, 17, "services.web.label_file must be a text or a list of texts, not a number (3)", "quote it: \"3\""),
    ("twice the same group", "services:\n  web:\n    image: x\n    group_add: [a, a]\n", 4, 20, "services.web.group_add has \"a\" twice", "remove one of them"),
    ("variable not closed", "services:\n  web:\n    image: \"x:${TAG\"\n", 3, 15, "${TAG is not closed", "close it with }, or write $$ for a dollar that is meant as such"),
    ("required variable", "services:\n  web:\n    image: x:${TAG:?which one}\n", 3, 14, "required variable TAG is missing a value: which one", "set TAG in the environment or in .env"),
    ("variable without a name", "services:\n  web:\n    image: x:${}\n", 3, 14, "${} has no variable name", "a name begins with a letter or _ ; write $$ for a dollar that is meant as such"),
    ("unknown operator", "services:\n  web:\n    image: x:${TAG!latest}\n", 3, 14, "${TAG!latest} is not understood", "after TAG can stand :- - :? ? :+ or +, as in ${TAG:-default}"),
    ("no image", "services:\n  web:\n    ports: [80]\n", 2, 3, "service \"web\" has neither an image nor a build", "say which image it runs (image:) or how it is built (build:)"),
    ("an empty service", "services:\n  web:\n", 2, 3, "service \"web\" says nothing", "give it an image or a build"),
    ("unknown dependency", "services:\n  web:\n    image: x\n    depends_on: [bd]\n  db: {image: x}\n", 4, 18, "service \"web\" refers to service \"bd\", which is not defined", "did you mean db?"),
    ("dependency on itself", "services:\n  web:\n    image: x\n    depends_on: [web]\n", 4, 18, "services depend on one another in a circle: web -> web", "take one dependency out of the circle"),
    ("circle of dependencies", "services:\n  a:\n    image: x\n    depends_on: [b]\n  b:\n    image: x\n    depends_on: [c]\n  c:\n    image: x\n    depends_on: [a]\n", 10, 18, "services depend on one another in a circle: a -> b -> c -> a", "take one dependency out of the circle"),
    ("unknown network", "services:\n  web:\n    image: x\n    networks: [frnt]\nnetworks:\n  front:\n", 4, 16, "service \"web\" refers to network \"frnt\", which is not defined", "did you mean front?"),
    ("unknown volume", "services:\n  web:\n    image: x\n    volumes: [\"dta:/data\"]\nvolumes:\n  data:\n", 4, 15, "service \"web\" refers to volume \"dta\", which is not defined", "did you mean data?"),
    ("path without a point", "services:\n  web:\n    image: x\n    volumes: [\"src/app:/app\"]\n", 4, 15, "service \"web\" refers to volume \"src/app\", which is not defined", "a path of the host begins with ./ or /: ./src/app"),
    ("unknown secret", "services:\n  web:\n    image: x\n    secrets: [key]\n", 4, 15, "service \"web\" refers to secret \"key\", which is not defined", "define it under secrets: in the top level"),
    ("unknown config", "services:\n  web:\n    image: x\n    configs: [conf]\n", 4, 15, "service \"web\" refers to config \"conf\", which is not defined", "define it under configs: in the top level"),
    ("secret without a source", "services:\n  web:\n    image: x\nsecrets:\n  key: {}\n", 5, 3, "secrets.key has none of file, environment", "say where its content comes from"),
    ("config with two sources", "services:\n  web:\n    image: x\nconfigs:\n  c: {file: ./a, content: b}\n", 5, 18, "configs.c has more than one of file, environment, content", "keep one of them"),
    ("network_mode and networks", "services:\n  web:\n    image: x\n    network_mode: host\n    networks: [n]\nnetworks:\n  n:\n", 4, 19, "service \"web\" has both network_mode and networks", "keep one of them"),
    ("two mounts in one place", "services:\n  web:\n    image: x\n    volumes: [\"./a:/x\"]\n    tmpfs: [/x]\n", 4, 15, "services.web.volumes[0]: /x is mounted already by tmpfs[0]", "remove one of them"),
    ("container_name and scale", "services:\n  web:\n    image: x\n    container_name: one\n    scale: 2\n", 4, 21, "services.web has container_name and 2 containers", "names of containers are unique: remove container_name"),
    ("two services with one name", "services:\n  a:\n    image: x\n    container_name: one\n  b:\n    image: x\n    container_name: one\n", 7, 21, "services \"a\" and \"b\" have the same container_name \"one\"", "names of containers are unique: change one of them"),
    ("scale and replicas", "services:\n  web:\n    image: x\n    scale: 2\n    deploy: {replicas: 3}\n", 4, 12, "services.web: scale and deploy.replicas have different values", "remove one of them"),
    ("external with a driver", "services:\n  web:\n    image: x\nvolumes:\n  v: {external: true, driver: local}\n", 5, 23, "volumes.v is external, so driver cannot be given", "remove it: what is external is made by somebody else"),
    ("profile not active", "services:\n  web:\n    image: x\n    depends_on: [db]\n  db:\n    image: x\n    profiles: [debug]\n", 4, 18, "service \"web\" depends on service \"db\", whose profiles are not active", "activate one with --profile debug"),
    ("health check test", "services:\n  web:\n    image: x\n    healthcheck: {test: [curl, localhost]}\n", 4, 26, "services.web.healthcheck.test must begin with CMD, CMD-SHELL or NONE", "write [\"CMD\", …] for a command, or a text for a shell"),
    ("bind without a source", "services:\n  web:\n    image: x\n    volumes: [{type: bind, target: /x}]\n", 4, 15, "services.web.volumes[0] has no source", "a mount of type bind needs one"),
    ("volume without a target", "services:\n  web:\n    image: x\n    volumes: [{type: volume, source: v}]\nvolumes:\n  v:\n", 4, 15, "services.web.volumes[0] has no target", "target is the path in the container"),
    ("volume without a type", "services:\n  web:\n    image: x\n    volumes: [{source: v, target: /x}]\nvolumes:\n  v:\n", 4, 15, "services.web.volumes[0] has no type", "add type, which it cannot do without"),
    ("options of another type", "services:\n  web:\n    image: x\n    volumes: [{type: bind, source: ., target: /x, volume: {nocopy: true}}]\n", 4, 51, "services.web.volumes[0] is of type bind, so volume means nothing to it", "remove volume, or make its type volume"),
    ("ulimit without hard", "services:\n  web:\n    image: x\n    ulimits: {nofile: {soft: 10}}\n", 4, 23, "services.web.ulimits.nofile has no hard", "add hard, which it cannot do without"),
    ("extends without a service", "services:\n  web:\n    extends: {file: base.yaml}\n", 3, 14, "services.web.extends has no service", "name the service that it starts from: `extends: {service: base}`"),
    ("extends an unknown service", "services:\n  web:\n    extends: bse\n  base: {image: x}\n", 3, 14, "service \"web\" cannot extend \"bse\": /p/compose.yaml has no such service", "did you mean base?"),
    ("extends a missing file", "services:\n  web:\n    extends: {file: none.yaml, service: base}\n", 3, 21, "there is no file /p/none.yaml", "paths of extends are relative to the file that they stand in"),
    ("circle of extends", "services:\n  a:\n    extends: b\n  b:\n    extends: a\n", 3, 14, "services extend one another in a circle: a in /p/compose.yaml extends b in /p/compose.yaml extends a in /p/compose.yaml", "take one extends out of the circle"),
    ("include of a missing file", "include: [none.yaml]\nservices:\n  web: {image: x}\n", 1, 11, "there is no file /p/none.yaml", "paths of include are relative to the project's directory"),
    ("missing env file", "services:\n  web:\n    image: x\n    env_file: none.env\n", 4, 15, "env file /p/none.env not found", "write the file, or make it optional: `- path: … required: false`"),
    ("watch without a target", "services:\n  web:\n    build: .\n    develop:\n      watch: [{path: ., action: sync}]\n", 5, 15, "services.web.develop.watch: sync needs a target", "target is the path in the container that files are copied to"),
    ("two dockerfiles", "services:\n  web:\n    build: {dockerfile: D, dockerfile_inline: FROM x}\n", 3, 47, "service \"web\" has both dockerfile and dockerfile_inline", "keep one of them"),
    ("builds on what is not built", "services:\n  web:\n    build: {additional_contexts: [base=service:db]}\n  db: {image: x}\n", 3, 35, "service \"web\" builds on service \"db\", which is not built", "use its image: docker-image://IMAGE, or give db a build"),
];

#[test]
fn every_broken_file_is_shown_where_it_is_broken() {
    let mut wrong = Vec::new();
    for (what, yaml, line, column, message, hint) in CASES {
        let mut options = Options::new("/p", Environment::new());
        options.name = Some("p".to_owned());
        options.files = vec![PathBuf::from("compose.yaml")];
        let Err(error) = load(&options, &One(yaml)) else {
            wrong.push(format!("{what}: was taken"));
            continue;
        };
        let excerpt = yaml.lines().nth(*line as usize - 1).unwrap_or_default();
        let mark = " ".repeat(*column as usize - 1);
        let mut expected = format!("/p/compose.yaml:{line}:{column}: {message}");
        if *line as usize <= yaml.lines().count() {
            expected.push_str(&format!("\n{line:>5} | {excerpt}\n      | {mark}^"));
        }
        let text = error.to_string();
        // A tab in the line is a tab in the mark's line, so that both stand in one column.
        let seen = text.replace('\t', " ");
        if !seen.starts_with(&expected.replace('\t', " ")) || error.hint() != Some(hint) {
            wrong.push(format!(
                "{what}: expected\n{expected}\nhint {hint}\nsaid\n{text}\nhint {:?}",
                error.hint()
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), CASES.len(), wrong.join("\n\n"));
}
