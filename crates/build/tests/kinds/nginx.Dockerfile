FROM debian:bookworm-slim
LABEL org.opencontainers.image.title="web server" \
      org.opencontainers.image.licenses="BSD-2-Clause"
ENV NGINX_VERSION=1.29.1 PKG_RELEASE=1~bookworm
ENV NGINX_PACKAGES="nginx=${NGINX_VERSION}-${PKG_RELEASE} \
        nginx-module-njs=${NGINX_VERSION}-${PKG_RELEASE}"
RUN set -x \
    # the account first, so that its numbers do not depend on packages
    && groupadd --system --gid 101 nginx \
    && useradd --system --gid nginx --no-create-home --home /nonexistent --uid 101 nginx \
    && apt-get update && apt-get install --no-install-recommends -y $NGINX_PACKAGES \
    && ln -sf /dev/stdout /var/log/nginx/access.log \
    && ln -sf /dev/stderr /var/log/nginx/error.log \
    && mkdir /entry.d
COPY entry.sh /
COPY 10-listen-on-ipv6.sh 20-templates.sh /entry.d/
ENTRYPOINT ["/entry.sh"]
EXPOSE 80 443
STOPSIGNAL SIGQUIT
CMD ["nginx", "-g", "daemon off;"]
