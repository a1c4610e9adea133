<?php
// Publishes a notification, stored once however often this runs. It needs no library.
declare(strict_types=1);

$nats = parse_url(getenv('NATS_URL'));
$broker = stream_socket_client("tcp://$nats[host]:" . ($nats['port'] ?? 4222), timeout: 5);
stream_set_timeout($broker, 5);
$login = ['user' => $nats['user'] ?? '', 'pass' => $nats['pass'] ?? '', 'verbose' => false];
$login += ['headers' => true, 'no_responders' => true];
$inbox = '_INBOX_backend.' . bin2hex(random_bytes(8));
$headers = "NATS/1.0\r\nNats-Msg-Id: orders/42/sent/user.7\r\n\r\n";
$body = json_encode(['text' => 'Order 42 is on its way.']);
$sizes = strlen($headers) . ' ' . strlen($headers . $body);
fwrite($broker, 'CONNECT ' . json_encode($login) . "\r\nSUB $inbox 1\r\n");
// JetStream's confirmation is the reply to a request.
fwrite($broker, "HPUB user.7.notifications $inbox $sizes\r\n$headers$body\r\n");

while (($line = fgets($broker)) !== false) {
    $words = explode(' ', rtrim($line));
    if ($words[0] === 'MSG') {
        $stored = json_decode(stream_get_contents($broker, (int) end($words)), true);
        isset($stored['error']) && exit($stored['error']['description'] . "\n");
        echo $stored['seq'], isset($stored['duplicate']) ? " stored before\n" : " stored\n";
        exit(0);
    }
    if ($words[0] === 'HMSG' || $words[0] === '-ERR') {
        break; // No stream takes it, or it is not allowed.
    }
}
fwrite(STDERR, 'Not confirmed; run it again: ' . ($line ?: 'no answer') . "\n");
exit(1);
