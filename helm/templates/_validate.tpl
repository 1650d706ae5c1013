{{/* Fails on values that would render but not work. */}}
{{- define "alovoice-gateway.validate" -}}
{{- $isPostgres := include "alovoice-gateway.isPostgres" . -}}
{{- if not .Values.config.auth.issuers -}}
{{- fail "\n\nconfig.auth.issuers is empty: list the issuers whose tokens are accepted, see the example in values.yaml." -}}
{{- end -}}
{{- if not .Values.config.tenants -}}
{{- fail "\n\nconfig.tenants is empty: say who the callers work for, see the example in values.yaml." -}}
{{- end -}}
{{- if $isPostgres -}}
{{- if not .Values.database.postgres.host -}}
{{- fail "\n\ndatabase.postgres.host is empty: say where the PostgreSQL server is." -}}
{{- end -}}
{{- else -}}
{{- if gt (int .Values.replicaCount) 1 -}}
{{- fail "\n\nreplicaCount must be 1 (or 0) with database.kind sqlite: one process at a time may use the file. With postgres there can be many." -}}
{{- end -}}
{{- if .Values.autoscaling.enabled -}}
{{- fail "\n\nautoscaling.enabled needs database.kind postgres: one process at a time may use a SQLite file." -}}
{{- end -}}
{{- if eq ((.Values.strategy | default dict).type | default "Recreate") "RollingUpdate" -}}
{{- fail "\n\nstrategy.type must be Recreate with database.kind sqlite: the new pod would wait for the file, and the old pod for the new one." -}}
{{- end -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) -}}
{{- fail "\n\nautoscaling.minReplicas must be at most autoscaling.maxReplicas." -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
{{- fail "\n\ningress.hosts is empty: name the host under which the API is reached." -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- fail "\n\nhttpRoute.parentRefs is empty: name the Gateway." -}}
{{- end -}}
{{- include "alovoice-gateway.validateListeners" . -}}
{{- include "alovoice-gateway.validateService" . -}}
{{- include "alovoice-gateway.validateEgress" . -}}
{{- if .Release.IsUpgrade -}}
{{- include "alovoice-gateway.validateUpgrade" . -}}
{{- end -}}
{{- include "alovoice-gateway.validateData" . -}}
{{- end -}}

{{- define "alovoice-gateway.validateListeners" -}}
{{- range $key, $user := dict "listen" "no Service can reach it" "admin_listen" "no probe can reach it" -}}
{{- $address := get $.Values.config.server $key | default "0.0.0.0:1" -}}
{{- if regexMatch "^(127\\.|\\[(0*:)*:?0*1\\]|\\[::ffff:127\\.|localhost:)" (lower $address) -}}
{{- fail (printf "\n\nconfig.server.%s is %s, an address inside the pod: %s. Use 0.0.0.0 or [::]." $key $address $user) -}}
{{- end -}}
{{- if and (has "IPv6" ($.Values.service.ipFamilies | default list)) (not (hasPrefix "[" $address)) -}}
{{- fail (printf "\n\nconfig.server.%s must be an IPv6 address such as [::]:PORT, because service.ipFamilies has IPv6. It then accepts IPv4 too." $key) -}}
{{- end -}}
{{- if regexMatch ":0+$" $address -}}
{{- fail (printf "\n\nconfig.server.%s must name a port, because the Service and the probes need it." $key) -}}
{{- end -}}
{{- end -}}
{{- if eq (include "alovoice-gateway.apiPort" .) (include "alovoice-gateway.adminPort" .) -}}
{{- fail "\n\nconfig.server.listen and config.server.admin_listen must have different ports: callers must not reach metrics and probes." -}}
{{- end -}}
{{- $derived := dict "SERVER__LISTEN" "config.server.listen" "SERVER__ADMIN_LISTEN" "config.server.admin_listen" "SERVER__SHUTDOWN_GRACE" "config.server.shutdown_grace" "STORE__URL" "database" "STORE__PASSWORD_FILE" "database" "CONFIG" "config" -}}
{{- range .Values.extraEnv -}}
{{- with get $derived (trimPrefix "GATEWAY_" .name) -}}
{{- fail (printf "\n\nextraEnv must not set this variable, because other objects depend on it: set the value %s." .) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The API server refuses these combinations, or ignores the value. */}}
{{- define "alovoice-gateway.validateService" -}}
{{- $service := .Values.service -}}
{{- range list "loadBalancerClass" "loadBalancerSourceRanges" -}}
{{- if and (get $service .) (ne $service.type "LoadBalancer") -}}
{{- fail (printf "\n\nservice.%s needs service.type LoadBalancer." .) -}}
{{- end -}}
{{- end -}}
{{- if and $service.externalTrafficPolicy (eq $service.type "ClusterIP") -}}
{{- fail "\n\nservice.externalTrafficPolicy needs service.type NodePort or LoadBalancer." -}}
{{- end -}}
{{- end -}}

{{/* URLs in the settings that the gateway connects to, of {value, at}: JSON objects {at, url}, each with a comma after it. */}}
{{- define "alovoice-gateway.urlsIn" -}}
{{- $top := . -}}
{{- if kindIs "map" .value -}}
{{- range $key, $value := .value -}}
{{- include "alovoice-gateway.urlsIn" (dict "value" $value "at" (printf "%s.%s" $top.at $key)) -}}
{{- end -}}
{{- else if kindIs "slice" .value -}}
{{- range $index, $value := .value -}}
{{- include "alovoice-gateway.urlsIn" (dict "value" $value "at" (printf "%s.%d" $top.at $index)) -}}
{{- end -}}
{{- else if and (kindIs "string" .value) (regexMatch "_(url|endpoint|proxy)$" .at) (not (hasSuffix ".public_url" .at)) (contains "://" .value) -}}
{{- dict "at" .at "url" .value | toRawJson -}},
{{- end -}}
{{- end -}}

{{/* Whether a rule of networkPolicy.egress.extra allows a port, of {rules, port}. */}}
{{- define "alovoice-gateway.isAllowedPort" -}}
{{- $port := .port -}}
{{- range .rules -}}
{{- if not .ports -}}true{{- end -}}
{{- range .ports -}}
{{- if or (not .port) (kindIs "string" .port) (and (le (int .port) $port) (ge (int (.endPort | default .port)) $port)) -}}true{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
Returns `true` if requests to a server go through a forward proxy, and nothing otherwise. Takes root, scheme, host and port. The proxy can also come from a
variable of extraEnv, whose value may be in a Secret. Networks in no_proxy are ignored, because the addresses of hosts are unknown here.
*/}}
{{- define "alovoice-gateway.isProxied" -}}
{{- if has .scheme (list "http" "https") -}}
{{- $network := .root.Values.config.network | default dict -}}
{{- $key := printf "%s_proxy" .scheme -}}
{{- $variables := list (printf "GATEWAY_NETWORK__%s" (upper $key)) (upper $key) $key "ALL_PROXY" "all_proxy" -}}
{{- $isProxied := not (empty (get $network $key)) -}}
{{- range .root.Values.extraEnv -}}{{- if has .name $variables -}}{{- $isProxied = true -}}{{- end -}}{{- end -}}
{{- $host := trimSuffix "." .host -}}
{{- range $network.no_proxy -}}
{{- $entry := . | trim | lower -}}
{{- $port := regexFind "^[^:]+:[0-9]+$" $entry | regexFind "[0-9]+$" -}}
{{- $entry = $port | empty | ternary $entry (trimSuffix (printf ":%s" $port) $entry) -}}
{{- $name := $entry | trimPrefix "*" | trimAll "." -}}
{{- $isHost := or (eq $entry "*") (and $name (or (eq $name $host) (hasSuffix (printf ".%s" $name) $host))) -}}
{{- if and $isHost (or (empty $port) (eq $port (toString $.port))) -}}{{- $isProxied = false -}}{{- end -}}
{{- end -}}
{{- if $isProxied -}}true{{- end -}}
{{- end -}}
{{- end -}}

{{/* Requests through a forward proxy need a rule for the proxy only. */}}
{{- define "alovoice-gateway.validateEgress" -}}
{{- if .Values.networkPolicy.enabled -}}
{{- $egress := .Values.networkPolicy.egress -}}
{{- range printf "[%s]" (include "alovoice-gateway.urlsIn" (dict "value" .Values.config "at" "config") | trimSuffix ",") | fromJsonArray -}}
{{- $scheme := lower (regexFind "^[A-Za-z0-9+.-]+" .url) -}}
{{- $authority := regexReplaceAll "^[^:]+://([^/?#]*@)?([^/?#]*).*$" .url "${2}" | lower -}}
{{- $port := regexFind "[0-9]+$" (regexFind ":[0-9]+$" $authority) | default (get (dict "http" "80" "postgres" "5432" "postgresql" "5432" "socks5" "1080" "socks5h" "1080") $scheme | default "443") | int -}}
{{- $host := regexReplaceAll ":[0-9]+$" $authority "" -}}
{{- $isProxied := include "alovoice-gateway.isProxied" (dict "root" $ "scheme" $scheme "host" $host "port" $port) -}}
{{- if regexMatch "_proxy$" .at -}}{{- $isProxied = "" -}}{{- end -}}
{{- $ports := concat $egress.web.ports (ternary (list 80) list (($.Values.config.callbacks | default dict).allow_http | default false)) -}}
{{- if hasSuffix ".listen_url" .at -}}{{- $ports = append $ports $.Values.database.postgres.port -}}{{- end -}}
{{- $isWeb := false -}}
{{- range $ports -}}{{- if eq (int .) $port -}}{{- $isWeb = true -}}{{- end -}}{{- end -}}
{{- if not (or $isProxied $isWeb (include "alovoice-gateway.isAllowedPort" (dict "rules" $egress.extra "port" $port))) -}}
{{- fail (printf "\n\n%s uses port %d, and the NetworkPolicy allows no connection to it. If the server has a public address, add the port to networkPolicy.egress.web.ports. Otherwise add a rule to networkPolicy.egress.extra." .at $port) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
