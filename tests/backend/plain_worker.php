<?php
// Answers the gateway's auth requests. It needs no library: NATS speaks text.
declare(strict_types=1);

$key = (string) getenv('JWT_KEY');
if (strlen($key) < 32) {
    exit("JWT_KEY is 32 bytes at least (RFC 7518 §3.2).\n");
}

function answer(array $request, string $key): array
{
    $denied = ['success' => false, 'error' => 'The token is not valid.'];
    $parts = explode('.', $request['token'] ?? '');
    if (count($parts) !== 3) {
        return $denied;
    }
    $signature = hash_hmac('sha256', "$parts[0].$parts[1]", $key, true);
    if (!hash_equals(rtrim(strtr(base64_encode($signature), '+/', '-_'), '='), $parts[2])) {
        return $denied;
    }
    [$head, $claims] = array_map(
        fn ($part) => json_decode(base64_decode(strtr($part, '-_', '+/')), true),
        $parts,
    );
    if (($head['alg'] ?? '') !== 'HS256' || empty($claims['sub']) || ($claims['exp'] ?? 0) <= time()) {
        return $denied;
    }
    return ['success' => true, 'user_id' => $claims['sub'], 'expires_at' => $claims['exp']];
}

$nats = parse_url(getenv('NATS_URL'));
$broker = stream_socket_client("tcp://$nats[host]:" . ($nats['port'] ?? 4222), timeout: 5);
// Longer than the server's ping_interval: a connection silent for that long is gone.
stream_set_timeout($broker, 150);
$login = ['user' => $nats['user'] ?? '', 'pass' => $nats['pass'] ?? '', 'verbose' => false];
fwrite($broker, 'CONNECT ' . json_encode($login) . "\r\nSUB gateway.auth auth 1\r\n");

// Whatever ends this loop ends the process; the supervisor starts another.
while (($line = fgets($broker)) !== false) {
    $words = explode(' ', rtrim($line));
    if ($words[0] === 'PING') {
        fwrite($broker, "PONG\r\n");
    } elseif ($words[0] === '-ERR') {
        fwrite(STDERR, $line);
    } elseif ($words[0] === 'MSG') {
        [, , , $inbox, $length] = $words;
        $body = stream_get_contents($broker, (int) $length + 2);
        try {
            $request = json_decode($body, true, flags: JSON_THROW_ON_ERROR);
            $reply = json_encode(answer($request, $key), JSON_THROW_ON_ERROR);
            fwrite($broker, "PUB $inbox " . strlen($reply) . "\r\n$reply\r\n");
        } catch (Throwable $failure) {
            // Left unanswered: the client is told to come back.
            fwrite(STDERR, $failure->getMessage() . "\n");
        }
    }
}
exit(1);
