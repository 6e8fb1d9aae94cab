ARG PHP=8.4
FROM composer:2 AS vendor
WORKDIR /app
COPY composer.json composer.lock ./
RUN --mount=type=cache,target=/tmp/cache composer install --no-dev --no-scripts --prefer-dist

FROM php:${PHP}-fpm-alpine
SHELL ["/bin/ash", "-eo", "pipefail", "-c"]
ENV PHP_INI_DIR=/usr/local/etc/php \
	PHPIZE_DEPS="autoconf dpkg-dev dpkg file g++ gcc libc-dev make pkgconf re2c"
RUN apk add --no-cache --virtual .phpize-deps $PHPIZE_DEPS \
	&& pecl install redis-6.2.0 \
	&& docker-php-ext-enable redis \
	&& docker-php-source delete \
	&& apk del --no-network .phpize-deps
COPY --from=vendor /app/vendor /var/www/html/vendor
COPY --chown=www-data:www-data --parents ./public/./index.php ./src /var/www/html/
COPY <<EOF $PHP_INI_DIR/conf.d/zz-own.ini
memory_limit = 256M
error_log = /proc/self/fd/2
EOF
STOPSIGNAL SIGQUIT
EXPOSE 9000
CMD ["php-fpm"]
